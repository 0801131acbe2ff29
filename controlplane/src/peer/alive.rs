//! Who shares the engines with us: those that are listed and are heard. One that falls silent has its engines asked by the
//! others at once, however long the list still has it; one that nobody has heard yet is given none.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;

use super::Members;
use super::hear::Heard;
use crate::engine::Shard;

/// The engines that are ours where these of whom is heard share them with us, as that changes; until there is nobody to tell
/// any more.
pub(super) fn watch(
    mut members: watch::Receiver<Members>,
    mut heard: watch::Receiver<Heard>,
    which: fn(&Heard) -> BTreeSet<Arc<str>>,
) -> (watch::Receiver<Shard>, impl Future<Output = ()> + Send) {
    let (told, shards) = watch::channel(shard(&members.borrow(), &which(&heard.borrow())));
    let following = async move {
        loop {
            tokio::select! {
                Ok(()) = members.changed() => {}
                Ok(()) = heard.changed() => {}
                // Without either nothing changes any more.
                else => return,
            }
            let now = shard(&members.borrow_and_update(), &which(&heard.borrow_and_update()));
            told.send_if_modified(|known| {
                let news = *known != now;
                if news {
                    tracing::info!(replicas = now.members.len().max(1), "engines are shared out anew");
                    *known = now;
                }
                news
            });
        }
    };
    (shards, following)
}

fn shard(Members { me, all }: &Members, heard: &BTreeSet<Arc<str>>) -> Shard {
    let names = all.iter().map(|member| &member.name);
    let there: BTreeSet<&Arc<str>> = names.filter(|name| *name == me || heard.contains(*name)).collect();
    Shard { me: me.clone(), members: there.into_iter().cloned().collect() }
}

#[cfg(test)]
mod tests {
    use super::super::Member;
    use super::*;

    fn check(listed: &str, heard: &str, expected: &str) {
        let member = |name: &str| Member { name: name.into(), address: "127.0.0.1:1".parse().unwrap() };
        let members = Members { me: "me".into(), all: listed.split_whitespace().map(member).collect() };
        let heard = heard.split_whitespace().map(Arc::from).collect();
        assert_eq!(shard(&members, &heard).members.join(" "), expected, "{listed} / {heard:?}");
    }

    #[test]
    fn who_is_listed_and_heard_has_a_share_and_so_have_we() {
        check("b me a", "a b", "a b me");
        check("b me a", "a", "a me");
        check("me", "a", "me");
        check("a", "a", "a");
        check("", "", "");
    }
}
