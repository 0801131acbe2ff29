//! The runs of `must-show` that need no API server, small, of real processes.

use std::time::Duration;

use bench::show::manifests::{Manifests, Size};
use bench::show::site::{self, MODEL};
use bench::show::{Site, edits, fleet, scale};

use super::programs;

const SMALL: Size = Size { endpoints: 300, routes: 60 };

#[tokio::test]
async fn what_many_need_is_encoded_once() {
    let site = Site::of(&programs()).unwrap();
    let seen = fleet::run(fleet::Plan { subscribers: 40, size: SMALL }, &site).await.unwrap();
    assert_eq!((seen.encoded_for_all, seen.encoded_for_change, seen.encoded_for_return), (1.0, 1.0, 1.0), "{seen:?}");
    assert!(seen.bytes_for_each > 10_000.0 && seen.peak_kib < 512 * 1024, "{seen:?}");
}

#[tokio::test]
async fn one_endpoints_change_costs_as_much_in_a_large_fleet_as_in_a_small_one() {
    let site = Site::of(&programs()).unwrap();
    let plan = |size| scale::Plan { size, starts: 2, changes: 3, restarts: 1 };
    let small = scale::run(plan(Size { endpoints: 50, routes: 10 }), &site).await.unwrap();
    let large = scale::run(plan(SMALL), &site).await.unwrap();
    assert!(large.bytes > 4.0 * small.bytes, "{small:?} {large:?}");
    assert!(large.bytes_per_change < 1_000.0, "{large:?}");
    assert!(large.bytes_per_change - small.bytes_per_change <= 16.0, "{small:?} {large:?}");
    assert_eq!((large.effective_ms.len(), large.change.count), (2, 3));
}

#[tokio::test]
async fn an_edit_of_a_file_reaches_every_core_and_a_storm_of_them_costs_no_request() {
    let site = Site::of(&programs()).unwrap();
    let engine = site::addresses(1).unwrap()[0];
    let _engine = site.engine(engine, MODEL, &["--fast"]).unwrap();
    let folder = site.folder("manifests");
    let manifests = Manifests::new(&folder, engine).unwrap();
    let control = site.control(&folder).unwrap();
    let proxies: Vec<_> = (0..2).map(|_| site.programmed(&control).unwrap()).collect();
    let plan = edits::Plan {
        edits: 10,
        storm_routes: 50,
        storm_rate: 500.0,
        storm_time: Duration::from_secs(2),
        requests: 20.0,
    };
    let seen = edits::run(plan, &manifests, &proxies, control.metrics).await.unwrap();
    assert!(seen.at_rest.count == 10 && seen.at_rest.most_ms < 5_000.0, "{seen:?}");
    assert!(seen.storm_edits > 100 && seen.published_per_s <= 20.0, "{seen:?}");
    assert_eq!((seen.requests.failed, seen.requests.cut, seen.cores), (0, 0, 4), "{seen:?}");
}
