//! What each kind says, in short.

use super::*;
use crate::publish::{ProviderVerdict, Verdicts, unbuilt};
use crate::source::directory::reading_of;
use crate::status::desired::Verdict;
use crate::status::key::judged;
use crate::status::reach::Reach;

/// `Accepted Programmed=Refused: sentence …`, after a build of YAML.
fn said(kind: Kind, yaml: &str, reach: &Reach) -> String {
    let verdicts = verdicts(yaml);
    let key = Key { kind, name: ObjectName::new("default", "it") };
    let round = Round { world: World::default(), verdicts, snapshot: Arc::default() };
    text(&key.verdict(&round).unwrap().desired(reach, None))
}

fn verdicts(yaml: &str) -> Verdicts {
    build(&reading_of(&[("all.yaml", yaml)]).world, &Settings::default(), &mut Memory::default()).verdicts
}

fn text(says: &Says) -> String {
    let one = |told: &super::super::says::Told| match (told.holds, told.message.as_str()) {
        (true, "") => told.kind.clone(),
        (true, message) => format!("{}: {message}", told.kind),
        (false, message) => format!("{}={}: {message}", told.kind, told.reason),
    };
    let mut lines: Vec<String> = says.conditions.iter().map(one).collect();
    lines.extend(says.data_planes.map(|counts| format!("{}/{}", counts.acknowledged, counts.connected)));
    lines.join("\n")
}

#[track_caller]
fn check(kind: Kind, spec: &str, reach: &Reach, expected: &[&str]) {
    let group = "networking.serving.volcano.sh/v1alpha1";
    let yaml = format!("apiVersion: {group}\nkind: {kind}\nmetadata: {{name: it}}\nspec: {spec}\n");
    assert_eq!(said(kind, &yaml, reach), expected.join("\n"));
}

const ROUTE: &str = "{modelName: m, rules: [{targetModels: [{modelServerName: s}]}]}";
const SERVER: &str = "{inferenceEngine: vLLM, workloadSelector: {matchLabels: {app: s}}, workloadPort: {port: 8000}}";
const PROVIDER: &str = "{baseURL: 'https://x.example', auth: {secretRef: {name: k, key: k}}}";
const MISSING: &str =
    "ResolvedRefs=BackendNotFound: there is no ModelServer default/s: requests for it are answered 404";

#[test]
fn a_route_says_what_it_is_and_how_far_it_has_come() {
    let counts = Counts::of(2, 3);
    let check = |reach: &Reach, expected: &[&str]| {
        check(Kind::ModelRoute, ROUTE, reach, &[&["Accepted", MISSING], expected].concat());
    };
    check(&Reach::Nobody, &["Programmed=Pending: no data plane is connected", "0/0"]);
    check(&Reach::OnItsWay(counts), &["Programmed=Pending: 2 of 3 data planes run it", "2/3"]);
    let refused = Reach::Refused { counts, reason: "no".into() };
    check(&refused, &["Programmed=Refused: 1 of 3 data planes do not run it: no", "2/3"]);
    check(&Reach::Everywhere(Counts::of(3, 3)), &["Programmed: all connected data planes run it", "3/3"]);
}

#[test]
fn what_is_not_accepted_is_not_programmed() {
    let spec = "{modelName: m, parentRefs: [{name: g}], rules: [{targetModels: [{modelServerName: s}]}]}";
    let sentence = "it is attached to Gateways, and data planes of this release have no Gateway listeners: remove \
                    parentRefs to have it answered on their own port";
    let programmed = "Programmed=GatewayNotServed: data planes do not run it as it is written, see Accepted";
    let accepted = format!("Accepted=GatewayNotServed: {sentence}");
    check(Kind::ModelRoute, spec, &Reach::NotSent, &[&accepted, MISSING, programmed]);
}

#[test]
fn a_server_says_whether_it_is_ready() {
    let ready = "Ready=NoPods: no pod of the namespace has the labels app=s";
    let programmed = "Programmed: all connected data planes run it";
    check(Kind::ModelServer, SERVER, &Reach::Everywhere(Counts::of(1, 1)), &["Accepted", programmed, ready, "1/1"]);
}

#[test]
fn what_of_a_server_has_no_effect_is_said_where_it_is_accepted() {
    let spec = SERVER.replace("workloadPort", "trafficPolicy: {timeout: 100h}, workloadPort");
    let verdicts = verdicts(&format!(
        "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelServer\nmetadata: {{name: it}}\nspec: {spec}\n"
    ));
    let verdict = &verdicts.servers[&ObjectName::new("default", "it")];
    let says = Verdict::Server(verdict).desired(&Reach::Nobody, None);
    let accepted = says.condition("Accepted").unwrap();
    assert!(accepted.holds && accepted.message.contains("trafficPolicy.timeout"), "{accepted:?}");
    assert_eq!(accepted.message, verdict.notes.join("; "));
}

#[test]
fn a_provider_says_it_in_the_reference_s_words() {
    let lacks = "there is no Secret default/k with the label \
                 networking.serving.volcano.sh/external-model-provider-credential: \"true\"";
    let conditions = ["CredentialsResolved", "Ready"].map(|kind| format!("{kind}=CredentialNotFound: {lacks}"));
    check(Kind::ExternalModelProvider, PROVIDER, &Reach::NotSent, &["Accepted", &conditions[0], &conditions[1]]);
    let without = "{baseURL: 'https://x.example'}";
    let credentials = "CredentialsResolved: No credential is configured";
    let ready = "Ready: External provider configuration is ready";
    check(Kind::ExternalModelProvider, without, &Reach::NotSent, &["Accepted", credentials, ready]);
}

#[test]
fn a_provider_whose_secret_lacks_the_key_is_not_ready() {
    let check = |data: &str, reason: &str, part: &str| {
        let verdicts = verdicts(&format!(
            "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ExternalModelProvider\nmetadata: {{name: it}}\n\
             spec: {PROVIDER}\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: k, labels: \
             {{networking.serving.volcano.sh/external-model-provider-credential: 'true'}}}}\nstringData: {data}\n"
        ));
        let says =
            Verdict::Provider(&verdicts.providers[&ObjectName::new("default", "it")]).desired(&Reach::NotSent, None);
        for kind in ["CredentialsResolved", "Ready"] {
            let told = says.condition(kind).unwrap();
            let as_expected = told.holds == reason.is_empty() && (told.holds || told.reason == reason);
            assert!(as_expected && told.message.contains(part), "{data}: {told:?}");
            assert!(!told.message.contains("hush"), "{told:?}");
        }
    };
    check("{other: hush}", "CredentialKeyNotFound", "has no key \"k\"");
    check("{k: ''}", "CredentialKeyNotFound", "or nothing there");
    check("{k: ' '}", "CredentialInvalid", "white space alone");
    check("{k: hush}", "", "");
}

#[test]
fn an_invalid_provider_is_not_ready_whatever_its_credentials() {
    let no = |holds, reason, message: &str| crate::publish::Condition { holds, reason, message: message.to_owned() };
    let verdict = ProviderVerdict {
        generation: 1,
        accepted: no(false, crate::publish::Reason::Invalid, "bad"),
        credentials: no(true, crate::publish::Reason::CredentialNotRequired, ""),
    };
    let says = Verdict::Provider(&verdict).desired(&Reach::NotSent, None);
    let ready = says.condition("Ready").unwrap();
    assert_eq!((ready.holds, ready.reason.as_str()), (false, "ConfigurationInvalid"));
}

#[test]
fn what_decides_nothing_says_whether_it_is_valid_and_no_more() {
    let key = (Kind::ModelServing, name("it"));
    let check = |spec: Result<Arc<()>, Arc<[String]>>, expected: &str| {
        let held = Held { uid: "u".into(), generation: 4, seniority: Seniority::Created(1), spec, last_good: None };
        let world = World { judged: [(key.clone(), held)].into(), ..World::default() };
        let verdicts = build(&world, &Settings::default(), &mut Memory::default()).verdicts;
        // By a fault of the rest of the world it becomes no other.
        assert_eq!(unbuilt(&world, (&World::default(), &Verdicts::default()), "why").judged, verdicts.judged);
        let round = Round { world, verdicts, snapshot: Arc::default() };
        let (found, verdict, (uid, _)) = judged(&round).next().unwrap();
        assert_eq!((found, verdict.sent(), &**uid), (Key { kind: key.0, name: key.1.clone() }, false, "u"));
        let says = verdict.desired(&Reach::NotSent, None);
        assert_eq!((says.generation, says.data_planes, says.last_good), (4, None, None));
        assert_eq!(text(&says), expected);
    };
    check(Ok(Arc::new(())), "Accepted");
    check(Err(["a".to_owned(), "b".to_owned()].into()), "Accepted=Invalid: a; b");
}
