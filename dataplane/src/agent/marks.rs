//! Marks at endpoints, between the handles that the wire has and the seats that the prefix table has.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use api::predictions::{self, Mark};
use api::proto::Predictions;
use dataplane_core::index::{Predicted, Seat};
use dataplane_core::table::Table;

/// Handles and seats of one table.
#[derive(Debug, Default)]
pub(super) struct Seats {
    table: Weak<Table>,
    seats: HashMap<u32, Seat>,
    handles: HashMap<Seat, u32>,
}

impl Seats {
    /// What decisions left here, for a control plane of this epoch; none where there is nothing to tell.
    pub(super) fn out(&mut self, table: &Arc<Table>, epoch: u64, marks: &[Predicted]) -> Option<Predictions> {
        if marks.is_empty() || table.version().epoch != epoch {
            return None;
        }
        self.know(table);
        let told = |mark: &Predicted| {
            let Predicted { seat, key: hash, position } = *mark;
            Some(Mark { hash, handle: *self.handles.get(&seat)?, position })
        };
        let entries = predictions::pack(marks.iter().filter_map(told));
        (!entries.is_empty()).then_some(Predictions { epoch, entries })
    }

    /// What others' decisions left. Of another epoch, or of endpoints that the table does not have, nothing is taken.
    pub(super) fn take(&mut self, table: &Arc<Table>, said: &Predictions) -> Vec<Predicted> {
        let Predictions { epoch, entries } = said;
        let Ok(marks) = predictions::unpack(entries) else { return Vec::new() };
        if table.version().epoch != *epoch {
            return Vec::new();
        }
        self.know(table);
        let heard = |mark: Mark| {
            let Mark { hash: key, handle, position } = mark;
            Some(Predicted { seat: *self.seats.get(&handle)?, key, position })
        };
        marks.filter_map(heard).collect()
    }

    fn know(&mut self, table: &Arc<Table>) {
        if self.table.as_ptr() == Arc::as_ptr(table) {
            return;
        }
        self.table = Arc::downgrade(table);
        let slots = table.backends().flat_map(|backend| &backend.slots);
        let pairs = slots.filter_map(|slot| Some((slot.endpoint.handle, Seat(slot.seat?))));
        self.seats = pairs.collect();
        self.handles = self.seats.iter().map(|(handle, seat)| (*seat, *handle)).collect();
    }
}

#[cfg(test)]
mod tests {
    use api::snapshot::{Snapshot, Version};
    use dataplane_core::load::LiveRegistry;

    use super::*;

    /// Endpoints by handle; their seats are the handles and a hundred.
    fn table(epoch: u64, handles: &[u32]) -> Arc<Table> {
        let endpoint =
            |handle: &u32| serde_json::json!({"handle": handle, "name": "e", "address": format!("127.0.0.1:{handle}")});
        let list: Vec<_> = handles.iter().map(endpoint).collect();
        let text = serde_json::json!({"backends": [{"name": "t/b", "endpoints": list}]}).to_string();
        let snapshot = api::json::snapshot_from_json(text.as_bytes()).unwrap();
        let snapshot = Snapshot { version: Version { epoch, version: 1 }, ..snapshot };
        Arc::new(Table::compile_seated(&snapshot, &mut LiveRegistry::new(), |key| Some(u32::from(key.port) + 100)))
    }

    fn marks(seats: &[u32]) -> Vec<Predicted> {
        seats.iter().map(|seat| Predicted { seat: Seat(*seat), key: 5, position: 0 }).collect()
    }

    #[test]
    fn a_seat_is_told_by_its_handle_and_only_where_that_means_something() {
        let mut seats = Seats::default();
        let told = seats.out(&table(1, &[7, 8]), 1, &marks(&[107, 109, 108])).unwrap();
        let handles: Vec<u32> = predictions::unpack(&told.entries).unwrap().map(|mark| mark.handle).collect();
        assert_eq!(handles, [7, 8]);
        assert_eq!(seats.out(&table(2, &[7]), 1, &marks(&[107])), None);
        assert_eq!(seats.out(&table(1, &[7]), 1, &marks(&[109])), None);
    }

    #[test]
    fn what_others_say_is_of_the_tables_endpoints() {
        let mut seats = Seats::default();
        let said = seats.out(&table(1, &[7, 8]), 1, &marks(&[107, 108])).unwrap();
        assert_eq!(seats.take(&table(1, &[8]), &said), marks(&[108]));
        assert_eq!(seats.take(&table(2, &[8]), &said), []);
        assert_eq!(seats.take(&table(1, &[8]), &Predictions { entries: vec![0; 15], ..said }), []);
    }
}
