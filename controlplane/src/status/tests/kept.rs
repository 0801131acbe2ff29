//! The form that a status keeps while a later one is refused.

use super::*;
use crate::publish::Fallback;
use crate::world::LastGood;

impl Site {
    /// A route is edited, and refused.
    fn spoil(&mut self, route: &str) {
        let held = self.world.routes.get_mut(&name(route)).unwrap();
        (held.generation, held.spec) = (held.generation + 1, Err(["no".to_owned()].into()));
    }

    /// Another process leads, which remembers nothing and reads what statuses keep.
    fn restart(&mut self) {
        let spec = self.world.routes.values().find_map(|held| held.spec.clone().ok()).expect("a good one");
        for (name, held) in &mut self.world.routes {
            let key = Key { kind: Kind::ModelRoute, name: name.clone() };
            let generation = self.statuses.get(&key).and_then(|says| says.last_good);
            held.last_good = generation.map(|generation| Arc::new(LastGood { generation, spec: spec.clone() }));
        }
        self.memory = Memory::default();
        self.another_leads();
    }

    fn keeps(&self, key: &Key) -> Option<i64> {
        self.statuses[key].last_good
    }

    /// What data planes have of routes.
    fn published(&mut self) -> usize {
        self.build();
        self.round.as_ref().unwrap().snapshot.routes.len()
    }

    fn settle(&mut self) {
        self.build();
        self.all_have_it(1);
        self.run(seconds(300));
    }
}

#[test]
fn it_is_recorded_with_the_refusal_in_one_write_and_goes_with_the_next_good_form() {
    let mut site = Site::with_routes(3);
    site.settle();
    site.writes();
    assert_eq!(site.keeps(&route("r0")), None);
    site.spoil("r0");
    site.settle();
    assert_eq!((site.condition(&route("r0"), "Accepted"), site.keeps(&route("r0"))), ("Invalid".into(), Some(1)));
    assert_eq!(site.writes().len(), 1);
    // Another bad edit leaves the same form in force.
    site.spoil("r0");
    site.settle();
    assert_eq!((site.writes().len(), site.keeps(&route("r0"))), (1, Some(1)));
    site.route("r0", "s");
    site.settle();
    assert_eq!((site.condition(&route("r0"), "Accepted"), site.keeps(&route("r0"))), ("True".into(), None));
    assert_eq!(site.writes().len(), 1);
    site.spoil("r0");
    site.settle();
    assert_eq!(site.keeps(&route("r0")), Some(4));
}

#[test]
fn the_task_has_the_form_that_is_in_force() {
    let mut site = Site::with_routes(2);
    site.settle();
    site.spoil("r0");
    site.build();
    let round = site.round.clone().unwrap();
    let fleet = Fleet { own: site.progress.clone(), others: site.others.clone() };
    site.planner.observe(&round, &fleet, site.now);
    let Next::Write(task) = site.planner.next(site.now) else { panic!("nothing is due") };
    let Fallback::Kept(good) = &task.fallback else { panic!("{task:?}") };
    assert_eq!((good.generation, &good.spec["modelName"], &*task.uid), (1, &json!("m"), "first"));
}

#[test]
fn a_restart_over_refused_routes_publishes_all_of_them_and_writes_nothing() {
    let mut site = Site::with_routes(2000);
    (0..150).for_each(|n| site.spoil(&format!("r{n}")));
    assert_eq!(site.published(), 1850, "nothing is known of the spoilt ones");
    let mut site = Site::with_routes(2000);
    site.settle();
    (0..150).for_each(|n| site.spoil(&format!("r{n}")));
    site.settle();
    site.writes();
    site.restart();
    assert_eq!(site.published(), 2000);
    site.settle();
    assert_eq!(site.writes(), []);
    assert_eq!(site.keeps(&route("r7")), Some(1));
}

#[test]
fn what_a_leader_cannot_read_it_leaves_and_what_it_alone_knows_it_records() {
    let mut site = Site::with_routes(2);
    site.settle();
    site.spoil("r0");
    site.settle();
    site.writes();
    // As if its own rules were stricter than those of the one that led before.
    (site.memory, site.world.routes.get_mut(&name("r0")).unwrap().last_good) = (Memory::default(), None);
    site.another_leads();
    site.settle();
    assert_eq!(site.keeps(&route("r0")), Some(1));
    // Whoever leads next remembers the form, and the status has lost it.
    let mut site = Site::with_routes(2);
    site.settle();
    site.spoil("r0");
    site.settle();
    site.statuses.get_mut(&route("r0")).unwrap().last_good = None;
    site.another_leads();
    site.writes();
    site.build();
    site.run(seconds(2));
    assert_eq!((site.writes().len(), site.keeps(&route("r0"))), (1, Some(1)), "at once, and not as a count");
}
