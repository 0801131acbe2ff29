//! Tokens that are believed, and every way in which one is not.

use std::sync::Arc;
use std::time::Duration;

use api::proto::Subscribe;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::asked::Answer;
use super::contact::Contact;
use super::testing::{Signer, asked, claims, encode, known, options};
use super::verify::verify;
use super::*;
use crate::publish::serve::{Holds, Identify, Identity, Proof};

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn moment() -> Moment {
    Moment { at: tokio::time::Instant::now(), clock: now() }
}

/// What is known while the API server is there.
fn answer(known: Known) -> Answer {
    Answer { known: Arc::new(known), contact: Contact::There { heard: moment() } }
}

/// The claims of a good token, edited.
fn edited(pointer: &str, value: Value) -> Value {
    let mut edited = claims(now());
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = edited.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Value::Null => drop(parent.remove(key).unwrap()),
        value => drop(parent.insert(key.to_owned(), value).unwrap()),
    }
    edited
}

fn at(seconds: i64) -> Value {
    json!(now().as_second() + seconds)
}

#[test]
fn a_data_planes_token_says_who_it_is_whatever_key_it_is_signed_by() {
    let signers = [Signer::es256("a"), Signer::rs256("b"), Signer::es256("c")];
    let known = answer(known(&signers.each_ref()));
    let ends = now() + Duration::from_secs(600);
    for signer in &signers {
        let identity = verify(&signer.token(&claims(now())), &known, &options(), moment()).unwrap();
        let expected = Identity {
            node: "node-a".into(),
            namespace: "kthena-system".into(),
            pod: "dataplane-x7".into(),
            uid: "pod-1".into(),
            proof: Some(Proof { ends, holds: Holds::For(Duration::from_secs(600)) }),
        };
        assert_eq!(identity, expected, "{}", signer.kid);
    }
}

#[test]
fn claims_that_do_not_matter_may_be_anything() {
    let signer = Signer::es256("a");
    for claims in [
        edited("/aud", json!("kthena-controlplane")),
        edited("/aud", json!(["other", "kthena-controlplane"])),
        edited("/jti", json!({"new": [1]})),
        edited("/nbf", Value::Null),
        edited("/nbf", at(30)),
        edited("/exp", at(-29)),
    ] {
        verify(&signer.token(&claims), &answer(known(&[&signer])), &options(), moment()).unwrap();
    }
}

#[test]
fn claims_that_matter_are_refused_each_for_its_reason() {
    let kubernetes = |key: &str, value| edited(&format!("/kubernetes.io/{key}"), value);
    let rows = [
        ("another cluster", edited("/iss", json!("https://other")), Refusal::Issuer),
        ("an issuer that begins alike", edited("/iss", json!("https://kubernetes.default.svc/")), Refusal::Issuer),
        ("for the API server", edited("/aud", json!(["https://kubernetes.default.svc"])), Refusal::Audience),
        ("for nobody", edited("/aud", json!([])), Refusal::Audience),
        ("without an audience", edited("/aud", Value::Null), Refusal::Audience),
        ("an audience that begins alike", edited("/aud", json!("kthena-controlplane2")), Refusal::Audience),
        ("expired", edited("/exp", at(-30)), Refusal::Expired),
        ("expired long ago", edited("/exp", json!(1)), Refusal::Expired),
        ("without an end", edited("/exp", Value::Null), Refusal::Expired),
        ("an end beyond all time", edited("/exp", json!(i64::MAX)), Refusal::NoToken),
        ("not valid yet", edited("/nbf", at(31)), Refusal::TooEarly),
        ("another namespace", kubernetes("namespace", json!("default")), Refusal::Account),
        ("another account", kubernetes("serviceaccount", json!({"name": "x", "uid": "sa-1"})), Refusal::Account),
        ("a subject that differs", edited("/sub", json!("system:serviceaccount:kthena-system:x")), Refusal::Account),
        ("not of Kubernetes", edited("/kubernetes.io", Value::Null), Refusal::Account),
        ("made anew", kubernetes("serviceaccount", json!({"name": "dataplane", "uid": "sa-0"})), Refusal::AccountGone),
        ("an account without UID", kubernetes("serviceaccount", json!({"name": "dataplane"})), Refusal::AccountGone),
        ("no pod", kubernetes("pod", Value::Null), Refusal::Unbound),
        ("a pod without UID", kubernetes("pod", json!({"name": "p"})), Refusal::Unbound),
        ("a pod that is not scheduled", kubernetes("node", Value::Null), Refusal::Unbound),
        ("claims of another form", edited("/exp", json!("soon")), Refusal::NoToken),
        ("no claims", json!([]), Refusal::NoToken),
    ];
    let signer = Signer::es256("a");
    for (what, claims, refusal) in rows {
        let verdict = verify(&signer.token(&claims), &answer(known(&[&signer])), &options(), moment());
        assert_eq!(verdict, Err(refusal), "{what}");
    }
}

#[test]
fn a_service_account_that_is_gone_takes_its_tokens_along() {
    let signer = Signer::es256("a");
    let known = answer(Known { accounts: Accounts::default(), ..known(&[&signer]) });
    assert_eq!(verify(&signer.token(&claims(now())), &known, &options(), moment()), Err(Refusal::AccountGone));
}

/// The same, of an API server that has been away since then.
fn away(signer: &Signer, renewed: Moment) -> Answer {
    Answer { contact: Contact::Away { renewed }, ..answer(known(&[signer])) }
}

#[test]
fn while_the_api_server_is_away_the_end_of_a_token_is_excused_and_nothing_else() {
    let (signer, start) = (Signer::es256("a"), moment());
    let away = away(&signer, start);
    let passed = Duration::from_secs(7_200);
    let later = Moment { at: start.at + passed, clock: start.clock + passed };
    let shown = |claims: &Value| verify(&signer.token(claims), &away, &options(), later).map(|shown| shown.proof);
    let proof = Proof { ends: now() + Duration::from_secs(600), holds: Holds::PastItsEnd };
    assert_eq!(shown(&claims(now())), Ok(Some(proof)));
    let rows = [
        ("it had ended", edited("/exp", at(-1)), Refusal::Expired),
        ("without an end", edited("/exp", Value::Null), Refusal::Expired),
        ("for others", edited("/aud", json!(["other"])), Refusal::Audience),
        ("not valid yet", edited("/nbf", at(7_231)), Refusal::TooEarly),
        ("no pod", edited("/kubernetes.io/pod", Value::Null), Refusal::Unbound),
    ];
    for (what, claims, refusal) in rows {
        assert_eq!(shown(&claims), Err(refusal), "{what}");
    }
    let signature = verify(&Signer::es256("a").token(&claims(now())), &away, &options(), later);
    assert_eq!(signature, Err(Refusal::Signature));
}

#[test]
fn c20_how_long_a_token_is_excused_goes_by_a_clock_that_nobody_sets() {
    let (signer, start) = (Signer::es256("a"), moment());
    let token = signer.token(&claims(now()));
    let day = Duration::from_secs(24 * 3_600);
    let shown = |passed: Duration, clock: Duration| {
        let later = Moment { at: start.at + passed, clock: start.clock + clock };
        verify(&token, &away(&signer, start), &options(), later).map(|shown| shown.proof.unwrap().holds)
    };
    assert_eq!(shown(Duration::from_secs(60), day * 3), Ok(Holds::PastItsEnd), "set forward by three days");
    assert_eq!(shown(day * 2, Duration::from_secs(3_600)), Err(Refusal::Expired), "set back by two");
}

#[test]
fn signatures_that_are_not_the_keys_are_refused_each_for_its_reason() {
    let (ours, rsa, foreign) = (Signer::es256("a"), Signer::rs256("b"), Signer::es256("a"));
    let (known, claims) = (answer(known(&[&ours, &rsa])), claims(now()));
    let good = ours.token(&claims);
    let (head, signature) = good.rsplit_once('.').unwrap();
    let body = head.split_once('.').unwrap().1;
    let with = |header: Value| ours.sign(&header, &claims);
    let unsigned = |alg: &str| format!("{}.{body}.", encode(json!({"alg": alg, "kid": "a"}).to_string()));
    let rows = [
        ("a foreign key of a known name", foreign.token(&claims), Refusal::Signature),
        ("a key that nobody knows", Signer::es256("z").token(&claims), Refusal::UnknownKey),
        (
            "another's signature",
            format!("{head}.{}", rsa.token(&claims).rsplit_once('.').unwrap().1),
            Refusal::Signature,
        ),
        ("no signature", format!("{head}."), Refusal::Signature),
        (
            "other claims",
            format!("{}.{signature}", ours.token(&json!({})).rsplit_once('.').unwrap().0),
            Refusal::Signature,
        ),
        ("an RSA key's name", with(json!({"alg": "ES256", "kid": "b"})), Refusal::Signature),
        ("RS256 by a key of P-256", with(json!({"alg": "RS256", "kid": "a"})), Refusal::Signature),
        ("none", unsigned("none"), Refusal::Algorithm),
        ("None", unsigned("None"), Refusal::Algorithm),
        ("HS256", with(json!({"alg": "HS256", "kid": "a"})), Refusal::Algorithm),
        ("ES384", with(json!({"alg": "ES384", "kid": "a"})), Refusal::Algorithm),
        ("PS256", with(json!({"alg": "PS256", "kid": "a"})), Refusal::Algorithm),
        ("no algorithm", with(json!({"kid": "a"})), Refusal::NoToken),
        ("no key's name", with(json!({"alg": "ES256"})), Refusal::NoToken),
        ("an extension", with(json!({"alg": "ES256", "kid": "a", "crit": ["b64"], "b64": false})), Refusal::NoToken),
        ("nothing", String::new(), Refusal::NoToken),
        ("two parts", head.to_owned(), Refusal::NoToken),
        ("four parts", format!("{good}.x"), Refusal::NoToken),
        ("padding", format!("{good}=="), Refusal::NoToken),
        ("not base64url", format!("{head}.+/+/"), Refusal::NoToken),
        ("too long", format!("{good}{}", "A".repeat(8 << 10)), Refusal::NoToken),
    ];
    for (what, token, refusal) in rows {
        assert_eq!(verify(&token, &known, &options(), moment()), Err(refusal), "{what}");
    }
    verify(&good, &known, &options(), moment()).unwrap();
}

proptest! {
    #[test]
    fn no_change_of_one_character_is_believed(index in 0_usize..4_096, with in "[A-Za-z0-9_.-]") {
        let signer = Signer::rs256("a");
        let good = signer.token(&claims(now()));
        let index = index % good.len();
        let changed = format!("{}{with}{}", &good[..index], &good[index + 1..]);
        let verdict = verify(&changed, &answer(known(&[&signer])), &options(), moment());
        prop_assert_eq!(verdict.is_ok(), changed == good);
    }
}

#[test]
fn keys_that_cannot_be_used_are_left_out_and_none_at_all_is_an_error() {
    let usable = Signer::es256("a");
    let mut encryption = Signer::es256("b").jwk();
    encryption["use"] = json!("enc");
    let mut nameless = Signer::es256("c").jwk();
    nameless.as_object_mut().unwrap().remove("kid");
    let mut other = Signer::rs256("d").jwk();
    other["alg"] = json!("RS512");
    let unusable = [encryption, nameless, other, json!({"kty": "OKP", "kid": "e", "crv": "Ed25519", "x": "AA"})];
    let read = |keys: &[Value]| Keys::read(json!({ "keys": keys }).to_string().as_bytes());
    let with_one: Vec<_> = unusable.iter().cloned().chain([usable.jwk()]).collect();
    assert_eq!(read(&with_one).unwrap(), read(&[usable.jwk()]).unwrap());
    assert!(matches!(read(&unusable), Err(KeysError::None)));
    assert!(matches!(Keys::read(b"<html>"), Err(KeysError::Form(_))));
}

/// What a call with these authorizations comes to.
async fn ask(proofs: &Proofs, authorizations: &[&str]) -> Result<Identity, Status> {
    let mut metadata = MetadataMap::new();
    for authorization in authorizations {
        metadata.append("authorization", authorization.parse().unwrap());
    }
    proofs.identify(&metadata, &Subscribe { node: "a lie".into(), ..Subscribe::default() }).await
}

#[tokio::test(start_paused = true)]
async fn the_token_comes_as_one_bearer_authorization() {
    let signer = Signer::es256("a");
    let (_asked, news) = watch::channel(asked(known(&[&signer])));
    let proofs = Proofs::new(options(), news, Arc::default());
    let token = signer.token(&claims(Timestamp::now()));
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let identity = ask(&proofs, &[&format!("{scheme} {token}")]).await.unwrap();
        assert_eq!((identity.node.as_str(), identity.pod.as_str()), ("node-a", "dataplane-x7"));
    }
    let bearer = format!("Bearer {token}");
    let rows: [(&[&str], _); 5] = [
        (&[], Refusal::Missing),
        (&[&bearer, &bearer], Refusal::Several),
        (&[&token], Refusal::NoToken),
        (&["Basic dTpw"], Refusal::NoToken),
        (&["Bearer"], Refusal::NoToken),
    ];
    for (authorizations, refusal) in rows {
        let status = ask(&proofs, authorizations).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unauthenticated, refusal.to_string().as_str()));
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_has_the_api_server_asked_again() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let token = format!("Bearer {}", new.token(&claims(Timestamp::now())));
    let (told, news) = watch::channel(Asked::default());
    let again: Arc<Notify> = Arc::default();
    let proofs = Proofs::new(options(), news, again.clone());
    let shown = [token.as_str()];
    let keeper = async |answer: Option<Known>| {
        again.notified().await;
        told.send_modify(|asked| asked.learn(answer.map_or(Look::Nobody, Look::Told), moment()));
    };
    // Nothing is known, and it stays so.
    let (status, ()) = tokio::join!(ask(&proofs, &shown), keeper(None));
    assert_eq!(status.unwrap_err().code(), Code::Unavailable);
    let (status, ()) = tokio::join!(ask(&proofs, &shown), keeper(Some(known(&[&old]))));
    assert_eq!(status.unwrap_err().message(), Refusal::UnknownKey.to_string());
    let (identity, ()) = tokio::join!(ask(&proofs, &shown), keeper(Some(known(&[&old, &new]))));
    identity.unwrap();
    // A known key costs nothing, and an answer that does not come is not waited for for long.
    let begin = tokio::time::Instant::now();
    ask(&proofs, &shown).await.unwrap();
    assert_eq!(begin.elapsed(), Duration::ZERO);
    let unknown = format!("Bearer {}", Signer::es256("z").token(&claims(Timestamp::now())));
    let status = ask(&proofs, &[&unknown]).await.unwrap_err();
    assert_eq!((status.code(), begin.elapsed()), (Code::Unauthenticated, Duration::from_secs(2)));
}

#[test]
fn no_sentence_tells_what_is_in_a_token() {
    let signer = Signer::es256("a");
    let secret = edited("/kubernetes.io/namespace", json!("secret-team"));
    let refusal = verify(&signer.token(&secret), &answer(known(&[&signer])), &options(), moment()).unwrap_err();
    assert!(!refusal.to_string().contains("secret-team"), "{refusal}");
}
