use super::*;

fn meaning(yaml: &str) -> Result<Config, Problems> {
    resolve(Typed::of_yaml(yaml).unwrap())
}

#[track_caller]
fn refused(yaml: &str, sentences: &[&str]) {
    let Problems(problems) = meaning(yaml).unwrap_err();
    assert_eq!(problems.len(), sentences.len(), "{problems:?}");
    for (problem, sentence) in problems.iter().zip(sentences) {
        assert!(problem.contains(sentence), "{problem}");
    }
}

#[test]
fn a_directory_needs_nothing_else() {
    let config = meaning("manifests: here").unwrap();
    assert_eq!(config.source, Source::Directory("here".into()));
    assert_eq!(config.listen, ([127, 0, 0, 1], 15010).into());
    assert_eq!(config.state_dir, None);
    let kept = meaning("manifests: here\nstate_dir: there").unwrap();
    assert_eq!((kept.source, kept.state_dir), (config.source, Some("there".into())));
    assert_eq!((config.admin.debug, config.log), (Some(([127, 0, 0, 1], 15000).into()), LogFormat::Text));
}

#[test]
fn a_cluster_has_names_that_the_chart_gives() {
    let yaml = "kubernetes: true\nnamespaces: [a, b]\nnamespace: system\nwebhook_address: 0.0.0.0:8443\nlisten: 0.0.0.0:15010\n";
    let config = meaning(yaml).unwrap();
    let Source::Cluster(cluster) = config.source else { panic!("{config:?}") };
    assert_eq!((cluster.namespaces.len(), cluster.home.as_deref()), (2, Some("system")));
    assert_eq!(cluster.certificates.secret, "kthena-controlplane-certificates");
    let webhook = cluster.webhook.unwrap();
    assert_eq!((&*webhook.service, &*webhook.configuration), ("kthena-controlplane-webhook", "kthena-controlplane"));
    assert_eq!(cluster.certificates.issuer, CertificatesIssuer::Own);
    let Source::Cluster(by_file) = meaning("kubeconfig: /etc/kubeconfig").unwrap().source else { panic!() };
    assert_eq!(by_file.webhook, None);
}

#[test]
fn what_does_not_fit_is_said_at_once() {
    refused("{}", &["no objects: name a directory"]);
    refused("manifests: a\nkubernetes: true", &["from a or from a cluster"]);
    refused("manifests: a\nlisten: 0.0.0.0:1\nnamespaces: [x]", &["--namespaces: means nothing", "in plain text"]);
    refused("kubernetes: true\nnamespaces: ['']", &["without a name"]);
    refused("kubernetes: true\nstate_dir: there", &["--state-dir: means nothing for a cluster"]);
    refused("manifests: a\ncertificates_issuer: own", &["--certificates-issuer: means nothing"]);
    refused("kubernetes: true\ncertificates_issuer: cert-manager\ncertificate_hosts: [a]", &["--certificate-hosts"]);
    let unknown = Typed::of_yaml("manifest: a").unwrap_err();
    assert!(unknown.contains("manifest"), "{unknown}");
    assert_eq!(Typed::of_yaml(" \n").unwrap(), Typed::default());
}

#[test]
fn a_flag_beats_the_file() {
    let flags = Typed { debug_port: Some(1), log_format: Some(LogFormat::Json), ..Typed::default() };
    let file = Typed::of_yaml("debug_port: 2\nfleet_seed: 7\nmanifests: here\nlog_format: text").unwrap();
    let config = resolve(flags.or(file)).unwrap();
    assert_eq!((config.admin.debug.unwrap().port(), config.fleet_seed, config.log), (1, Some(7), LogFormat::Json));
}

#[test]
fn engines_are_asked_as_often_as_is_said_within_bounds() {
    let check = |said: &str, millis: u64| {
        let config = meaning(&format!("manifests: a\nmetrics_scrape_interval: {said}")).unwrap();
        assert_eq!(config.scrape_interval.as_millis(), u128::from(millis), "{said}");
    };
    check("500ms", 500);
    check("2s", 2_000);
    check("1ns", 100);
    check("1h", 5_000);
    assert_eq!(meaning("manifests: a").unwrap().scrape_interval, crate::engine::PERIOD);
    refused("manifests: a\nmetrics_scrape_interval: 0s", &["--metrics-scrape-interval"]);
    refused("manifests: a\nmetrics_scrape_interval: often", &["--metrics-scrape-interval"]);
}

#[test]
fn the_names_of_kthena_s_flags_mean_what_ours_do() {
    let theirs =
        "kubernetes: true\nwebhook_port: 9443\nmetrics_port: 9090\ncert_secret_name: c\nwebhook_service_name: w\n";
    let config = meaning(theirs).unwrap();
    assert_eq!(config.admin.metrics, ([0, 0, 0, 0], 9090).into());
    let Source::Cluster(cluster) = config.source else { panic!() };
    assert_eq!(cluster.certificates.secret, "c");
    let webhook = cluster.webhook.unwrap();
    assert_eq!((webhook.address, &*webhook.service), (([0, 0, 0, 0], 9443).into(), "w"));
    let both =
        "kubernetes: true\nwebhook_port: 1\nwebhook_address: 1.2.3.4:1\nmetrics_port: 1\nmetrics_address: 1.2.3.4:1\n";
    refused(both, &["--metrics-address and --metrics-port say the same", "--webhook-address and --webhook-port"]);
    refused("manifests: a\nwebhook_port: 1", &["--webhook-port: means nothing"]);
}

#[test]
fn a_webhook_is_served_where_it_is_named_or_enabled() {
    let check = |yaml: &str, expected: Option<&str>| {
        let Source::Cluster(cluster) = meaning(&format!("kubernetes: true\n{yaml}")).unwrap().source else { panic!() };
        assert_eq!(cluster.webhook.map(|webhook| webhook.address.to_string()).as_deref(), expected, "{yaml}");
    };
    check("", None);
    check("enable_webhook: true", Some("0.0.0.0:8443"));
    check("enable_webhook: true\nwebhook_port: 1", Some("0.0.0.0:1"));
    check("enable_webhook: false\nwebhook_port: 1", None);
}
