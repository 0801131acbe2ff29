//! The definitions themselves.

use controlplane::object::Kind;
use perf_tests::cluster::Cluster;

/// The first words of the log of `.ci/run kube-matrix`.
#[tokio::test]
async fn the_api_server_is_of_the_release_that_is_asked_for() {
    let version = Cluster::shared().admin().await.unwrap().apiserver_version().await.unwrap();
    println!("the API server is {}, built by {}", version.git_version, version.go_version);
    let said = format!("{}.{}", version.major, version.minor);
    assert_eq!(said, Cluster::release().unwrap_or_else(|| said.clone()));
    assert!(version.git_version.starts_with(&format!("v{said}.")), "{}", version.git_version);
}

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
