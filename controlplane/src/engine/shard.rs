//! Which replica asks which engine: each engine is asked by one of them, and all agree which without talking about it.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The replicas, as one of them sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// This replica's name.
    pub me: Arc<str>,
    /// The names of all, this one's included once the others can know of it.
    pub members: Arc<[Arc<str>]>,
}

impl Shard {
    /// A replica that is alone: all is its own.
    pub fn alone() -> Self {
        Self { me: "".into(), members: Arc::default() }
    }

    /// Whether this replica is to ask what is called so. One that the list lacks counts itself in: what is asked twice for
    /// a moment is no harm.
    pub fn owns(&self, name: &str) -> bool {
        let others = self.members.iter().filter(|member| **member != self.me);
        owner(others.chain([&self.me]), name) == Some(&self.me)
    }
}

/// The member with the highest hash of both names (rendezvous): one that leaves gives its own to the others evenly, and
/// nothing else moves.
fn owner<'m>(members: impl Iterator<Item = &'m Arc<str>>, name: &str) -> Option<&'m Arc<str>> {
    let weight = |member: &Arc<str>| xxh3_64_with_seed(name.as_bytes(), xxh3_64_with_seed(member.as_bytes(), 0));
    members.max_by_key(|member| (weight(member), Arc::clone(member)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: usize = 3_000;

    fn shards(members: &[&str]) -> Vec<Shard> {
        let all: Arc<[Arc<str>]> = members.iter().map(|member| Arc::from(*member)).collect();
        all.iter().map(|me| Shard { me: me.clone(), members: all.clone() }).collect()
    }

    /// Who of them asks each name.
    fn owners(members: &[&str]) -> Vec<Vec<String>> {
        let shards = shards(members);
        let of = |name: String| shards.iter().filter(|s| s.owns(&name)).map(|s| s.me.to_string()).collect();
        (0..NAMES).map(|i| of(format!("uid-{i}"))).collect()
    }

    #[test]
    fn each_name_has_one_owner_whatever_the_order_of_the_list() {
        let owners_of = owners(&["a", "b", "c"]);
        assert!(owners_of.iter().all(|owners| owners.len() == 1));
        assert_eq!(owners_of, owners(&["c", "a", "b"]));
        for member in ["a", "b", "c"] {
            let share = owners_of.iter().filter(|owners| owners[0] == member).count();
            assert!((800..1_200).contains(&share), "{member}: {share} of {NAMES}");
        }
    }

    #[test]
    fn who_leaves_gives_away_its_own_and_nothing_else_moves() {
        let (three, two) = (owners(&["a", "b", "c"]), owners(&["a", "b"]));
        let moved = three.iter().zip(&two).filter(|(before, after)| before != after);
        assert!(moved.clone().count() > 800);
        assert!(moved.clone().all(|(before, _)| before[0] == "c"));
    }

    #[test]
    fn one_that_is_alone_or_not_on_the_list_yet_asks() {
        assert!((0..NAMES).all(|i| Shard::alone().owns(&i.to_string())));
        let new = Shard { me: "new".into(), members: shards(&["a"])[0].members.clone() };
        let own = (0..NAMES).filter(|i| new.owns(&format!("uid-{i}"))).count();
        assert!((1_200..1_800).contains(&own), "{own}");
    }
}
