//! A connection to each core of a data plane: the kernel chooses the core, and the data plane's metrics tell which one it was.

use std::collections::BTreeMap;

use anyhow::ensure;

use super::client::{self, Kept};
use super::site::Proxy;

const CONNECTIONS: &str = "kthena_router_downstream_connections{core=\"";
/// Connections that are tried for each core: that they all miss one of sixteen has a chance of less than one to a million.
const TRIES: usize = 16;

/// Connections to a data plane that nobody else connects to meanwhile, one on each of its cores.
pub async fn of_each_core(proxy: &Proxy) -> anyhow::Result<Vec<Kept>> {
    let mut before = connections(proxy).await?;
    let (mut found, mut spare) = (BTreeMap::new(), Vec::new());
    let tries = TRIES * before.len();
    while found.len() < before.len() {
        ensure!(found.len() + spare.len() < tries, "{tries} connections are on the cores {:?} alone", found.keys());
        let mut connection = Kept::open(proxy.listen).await?;
        // Once there is an answer, the connection is counted.
        connection.get("/v1/models").await?;
        let now = connections(proxy).await?;
        // Those that are not needed stay open until the end, so that no count falls.
        match grown(&before, &now) {
            Some(core) => spare.extend(found.insert(core.to_owned(), connection)),
            None => spare.push(connection),
        }
        before = now;
    }
    Ok(found.into_values().collect())
}

/// Open connections of each core.
async fn connections(proxy: &Proxy) -> anyhow::Result<BTreeMap<String, f64>> {
    let (_, body) = client::get(proxy.metrics, "/metrics").await?;
    by_core(&String::from_utf8_lossy(&body))
}

fn by_core(text: &str) -> anyhow::Result<BTreeMap<String, f64>> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(CONNECTIONS)?.split_once("\"} "));
    let cores: BTreeMap<_, _> =
        lines.map(|(core, count)| Ok((core.to_owned(), count.parse()?))).collect::<anyhow::Result<_>>()?;
    ensure!(!cores.is_empty(), "a data plane says which cores it has");
    Ok(cores)
}

/// The core that has one more; none where that cannot be told, because another connection ends or begins.
fn grown<'c>(before: &BTreeMap<String, f64>, now: &'c BTreeMap<String, f64>) -> Option<&'c str> {
    let mut changed = now.iter().filter(|(core, count)| before.get(*core) != Some(*count));
    let (core, count) = changed.next()?;
    let one_more = before.get(core).is_some_and(|before| before + 1.0 == *count);
    (one_more && changed.next().is_none()).then_some(core)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(counts: &[u32]) -> BTreeMap<String, f64> {
        let line = |(core, count): (usize, &u32)| format!("{CONNECTIONS}{core}\"}} {count}\n");
        by_core(&counts.iter().enumerate().map(line).collect::<String>()).unwrap()
    }

    #[test]
    fn the_core_of_a_connection_is_the_one_that_has_one_more() {
        let check = |before: &[u32], now: &[u32], expected: Option<&str>| {
            assert_eq!(grown(&told(before), &told(now)), expected, "{before:?}, {now:?}");
        };
        check(&[0, 0], &[0, 1], Some("1"));
        check(&[3, 1], &[4, 1], Some("0"));
        check(&[3, 1], &[3, 1], None);
        check(&[3, 1], &[4, 2], None);
        check(&[3, 1], &[5, 1], None);
        check(&[3, 1], &[2, 2], None);
        assert!(by_core("kthena_router_downstream_connections_total 7\n").is_err());
    }
}
