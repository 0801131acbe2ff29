//! The definitions themselves.

use controlplane::object::Kind;
use perf_tests::cluster::Cluster;

#[tokio::test]
async fn every_definition_is_taken_and_established_and_again_when_it_is_there() {
    let cluster = Cluster::shared();
    let client = cluster.admin().await.unwrap();
    let mut expected: Vec<_> = Kind::ALL.iter().map(|kind| format!("{}.{}", kind.plural(), kind.group())).collect();
    expected.sort();
    for _ in 0..2 {
        let mut installed = cluster.install_definitions(&client).await.unwrap();
        installed.sort();
        assert_eq!(installed, expected);
    }
}
