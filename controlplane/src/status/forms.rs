//! Since which round each object has been in the form that it has now: what a replica that does not write status tells the one
//! that does. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::decode::Object;

use super::desired::Form;
use super::key::{Key, judged};
use crate::run::Round;

/// An object that data planes are to run as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Which of all objects that ever had its name.
    pub uid: Arc<str>,
    /// Its generation.
    pub generation: i64,
    /// The first round that has it in this form.
    pub since: u64,
}

/// All of them, as data planes call them.
pub type Standings = BTreeMap<Object, Standing>;

/// Follows rounds.
#[derive(Debug, Default)]
pub(crate) struct Forms {
    known: HashMap<Key, (Form, Standing)>,
    standings: Arc<Standings>,
}

impl Forms {
    /// After another round. The same value while nothing has changed. A round that was missed makes an object look younger than it is,
    /// so that it is taken to be everywhere later, and never sooner.
    pub(crate) fn observe(&mut self, round: &Round) -> Arc<Standings> {
        let since = round.snapshot.version.version;
        let mut known = HashMap::with_capacity(self.known.len());
        let mut news = false;
        for (key, verdict, (uid, _)) in judged(round) {
            if !verdict.sent() {
                continue;
            }
            let form = verdict.form();
            let before = self.known.remove(&key);
            let before = before.filter(|(of, standing)| *of == form && standing.uid == *uid);
            news |= before.is_none();
            let now = (form, Standing { uid: uid.clone(), generation: form.generation, since });
            known.insert(key, before.unwrap_or(now));
        }
        news |= !self.known.is_empty();
        self.known = known;
        if news {
            let standings = self.known.iter().map(|(key, (_, standing))| (key.object(), standing.clone()));
            self.standings = Arc::new(standings.collect());
        }
        self.standings.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::{Memory, Settings, build};
    use crate::source::directory::reading_of;
    use crate::world::{Seniority, World};

    const SERVER: &str = "kind: ModelServer\nmetadata: {name: s}\nspec: {inferenceEngine: vLLM, workloadPort: {port: 1}, \
                          workloadSelector: {matchLabels: {a: b}}}";

    fn route(name: &str, rest: &str) -> String {
        format!(
            "kind: ModelRoute\nmetadata: {{name: {name}}}\nspec: {{modelName: m-{name}, {rest}rules: [{{targetModels: [{{modelServerName: s}}]}}]}}"
        )
    }

    /// A cluster's objects, each of its generation and, in hundreds, of its UID. All were created within one second.
    fn world(objects: &[(String, i64)]) -> World {
        let group = "apiVersion: networking.serving.volcano.sh/v1alpha1\n";
        let yaml: Vec<String> = objects.iter().map(|(object, _)| format!("{group}{object}\n")).collect();
        let mut world = reading_of(&[("all.yaml", &yaml.join("---\n"))]).world;
        for (n, (_, generation)) in objects.iter().enumerate() {
            let held = world
                .routes
                .iter_mut()
                .map(|(name, held)| (name, (&mut held.uid, &mut held.generation, &mut held.seniority)));
            let others = world
                .servers
                .iter_mut()
                .map(|(name, held)| (name, (&mut held.uid, &mut held.generation, &mut held.seniority)));
            for (name, (uid, of, seniority)) in held.chain(others) {
                if objects[n].0.contains(&format!("{{name: {}}}", name.name)) {
                    (*of, *seniority) = (*generation % 100, Seniority::Created(1));
                    *uid = (*generation / 100).to_string().into();
                }
            }
        }
        world
    }

    struct Site {
        forms: Forms,
        memory: Memory,
        version: u64,
    }

    impl Site {
        /// Another round; what stands, as `name:generation@since`.
        fn round(&mut self, objects: &[(String, i64)]) -> (String, Arc<Standings>) {
            let world = world(objects);
            let mut built = build(&world, &Settings::default(), &mut self.memory);
            self.version += 1;
            built.snapshot.version.version = self.version;
            let round = Round { world, verdicts: built.verdicts, snapshot: Arc::new(built.snapshot) };
            let standings = self.forms.observe(&round);
            let word = |(object, it): (&Object, &Standing)| match object {
                Object::Route(name) => format!("{}:{}@{}", &name.as_str()[8..], it.generation, it.since),
                Object::Backend(name) => format!("{}:{}@{}", &name.as_str()[8..], it.generation, it.since),
                Object::Profile(name) => name.to_string(),
            };
            (standings.iter().map(word).collect::<Vec<_>>().join(" "), standings)
        }
    }

    #[test]
    fn each_object_is_as_old_as_its_form() {
        let mut site = Site { forms: Forms::default(), memory: Memory::default(), version: 0 };
        let server = (SERVER.to_owned(), 1);
        let (said, first) = site.round(&[(route("a", ""), 1), (route("b", ""), 1), server.clone()]);
        assert_eq!(said, "a:1@1 b:1@1 s:1@1");
        let (_, same) = site.round(&[(route("a", ""), 1), (route("b", ""), 1), server.clone()]);
        assert!(Arc::ptr_eq(&first, &same));
        let (said, _) = site.round(&[(route("a", ""), 2), (route("b", ""), 1), server.clone()]);
        assert_eq!(said, "a:2@3 b:1@1 s:1@1");
        // It is not sent as it is written; then it is again.
        let (said, _) =
            site.round(&[(route("a", ""), 2), (route("b", "parentRefs: [{name: g}], "), 2), server.clone()]);
        assert_eq!(said, "a:2@3 s:1@1");
        let (said, _) = site.round(&[(route("a", ""), 2), (route("b", ""), 3), server.clone()]);
        assert_eq!(said, "a:2@3 b:3@5 s:1@1");
        // Made anew under its name, in its generation.
        let (said, _) = site.round(&[(route("a", ""), 102), server.clone()]);
        assert_eq!(said, "a:2@6 s:1@1");
        let (said, _) = site.round(&[server]);
        assert_eq!(said, "s:1@1");
    }
}
