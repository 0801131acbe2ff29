//! By TLS, from strangers and from data planes with a token.

use std::collections::BTreeSet;

use api::proto::PeerReport;
use api::proto::peers_client::PeersClient;
use jiff::Timestamp;
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic::{Code, Request, Status};

use super::super::identify::Local;
use super::plane::{Plane, Site, until};
use super::*;
use crate::certificates::server_config;
use crate::certificates::testing::{Made, made};
use crate::engine::Shard;
use crate::identity::testing::{Signer, asked, claims, known, options};
use crate::identity::{self, Accounts, Asked, Known, Proofs};
use crate::peer::{Member, Members, Peering, Shared, Way};

/// A server by TLS, and what it proves who it is and finds out who others are by.
struct Secure {
    site: Site,
    bundle: String,
    certificates: watch::Sender<Option<Arc<CertifiedKey>>>,
    signer: Signer,
    _asked: watch::Sender<Asked>,
}

fn certificate() -> Made {
    made(&BTreeSet::from(["127.0.0.1".to_owned(), "control".to_owned()]))
}

impl Secure {
    async fn start() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(server: Options) -> Self {
        let signer = Signer::es256("a");
        let (asked, news) = watch::channel(asked(known(&[&signer])));
        let proofs = Arc::new(Proofs::new(options(), news, Arc::default()));
        let Made { bundle, key } = certificate();
        let (certificates, newest) = watch::channel(Some(Arc::new(key)));
        let config = server_config(newest, &[]);
        let listener = Listener::tls("127.0.0.1:0".parse().unwrap(), &config, proofs).await.unwrap();
        Self { site: Site::behind(listener, server), bundle, certificates, signer, _asked: asked }
    }

    async fn connect(&self, bundle: &str) -> Result<Channel, tonic::transport::Error> {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(bundle)).domain_name("control");
        let endpoint = Channel::from_shared(format!("https://{}", self.site.address)).unwrap().tls_config(tls).unwrap();
        endpoint.connect().await
    }

    /// A stream with this authorization.
    async fn join(&self, authorization: Option<&str>) -> Result<Plane, Status> {
        let subscribe = api::proto::Subscribe { node: "a lie".into(), ..Default::default() };
        Plane::over(self.connect(&self.bundle).await.unwrap(), authorization, Some(subscribe)).await
    }

    fn bearer(&self, seconds: i64) -> String {
        let mut claims = claims(Timestamp::now());
        claims["exp"] = json!(Timestamp::now().as_second() + seconds);
        format!("Bearer {}", self.signer.token(&claims))
    }
}

#[tokio::test]
async fn a_data_plane_is_who_its_token_says_and_not_who_it_says() {
    let secure = Secure::start().await;
    secure.site.publish("a b");
    secure.site.zones.send_replace(Arc::new([("node-a".to_owned(), "zone-1".to_owned())].into()));
    let mut plane = secure.join(Some(&secure.bearer(3_600))).await.unwrap();
    plane.apply().await;
    assert_eq!((plane.words().as_str(), plane.welcome.zone.as_str()), ("a b", "zone-1"));
    let [row] = &secure.site.data_planes()[..] else { panic!() };
    let said = [&row.node, &row.namespace, &row.pod, &row.uid].map(String::as_str);
    assert_eq!(said, ["node-a", "kthena-system", "dataplane-x7", "pod-1"]);
}

#[tokio::test]
async fn who_proves_nothing_gets_nothing() {
    let secure = Secure::start().await;
    secure.site.publish("a");
    let foreign = format!("Bearer {}", Signer::es256("a").token(&claims(Timestamp::now())));
    for (authorization, part) in
        [(None, "no token"), (Some(foreign.as_str()), "signature"), (Some(&secure.bearer(-60)), "expired")]
    {
        let status = secure.join(authorization).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().contains(part), "{status}");
    }
    assert_eq!((secure.site.streams(), secure.site.counts.unproved.load(Relaxed)), (0, 3));
}

#[tokio::test]
async fn a_stream_lives_no_longer_than_its_token_and_a_grace() {
    let secure = Secure::start().await;
    let plane = secure.join(Some(&secure.bearer(120))).await.unwrap();
    let life = plane.welcome.life_s;
    assert!((170..=180).contains(&life), "{life} s");
    // A token that is about to end is as good as any for as long as it lasts, and one for ever makes no stream for ever.
    let life = secure.join(Some(&secure.bearer(-20))).await.unwrap().welcome.life_s;
    assert!((55..=60).contains(&life), "{life} s");
    let life = secure.join(Some(&secure.bearer(1 << 30))).await.unwrap().welcome.life_s;
    assert!((1_440..=2_160).contains(&life), "{life} s");
}

#[tokio::test]
async fn new_connections_get_the_new_certificate_and_old_ones_run_on() {
    let secure = Secure::start().await;
    secure.site.publish("a");
    let mut plane = secure.join(Some(&secure.bearer(3_600))).await.unwrap();
    plane.apply().await;
    let Made { bundle, key } = certificate();
    secure.certificates.send_replace(Some(Arc::new(key)));
    secure.connect(&secure.bundle).await.expect_err("its certificate is of another CA now");
    secure.connect(&bundle).await.unwrap();
    secure.site.publish("a b");
    plane.apply().await;
    assert_eq!(plane.words(), "a b");
}

#[tokio::test]
async fn until_there_is_a_certificate_nobody_is_let_in() {
    let secure = Secure::start().await;
    let key = secure.certificates.send_replace(None);
    secure.connect(&secure.bundle).await.unwrap_err();
    secure.certificates.send_replace(key);
    secure.connect(&secure.bundle).await.unwrap();
}

#[tokio::test]
async fn plain_text_is_not_answered_by_tls() {
    let secure = Secure::start().await;
    let plain = Channel::from_shared(format!("http://{}", secure.site.address)).unwrap().connect().await;
    let refused = match plain {
        Err(_) => true,
        Ok(channel) => Plane::over(channel, Some(&secure.bearer(60)), Some(Default::default())).await.is_err(),
    };
    assert!(refused);
}

/// A replica that hears peers by TLS; the control plane's own service account is another than the data planes'.
async fn with_peers() -> (Secure, watch::Receiver<Shard>, JoinSet<()>) {
    let signer = Signer::es256("a");
    let proofs = |accounts: &[(&str, &str)]| {
        let accounts = accounts.iter().map(|(name, uid)| ((*name).to_owned(), (*uid).to_owned()));
        let known = Known { accounts: Accounts(accounts.collect()), ..known(&[&signer]) };
        watch::channel(asked(known))
    };
    let (asked, news) = proofs(&[("dataplane", "sa-1")]);
    let data_planes = Arc::new(Proofs::new(options(), news, Arc::default()));
    let (_, news) = proofs(&[("controlplane", "sa-2")]);
    let own = identity::Options::new("kthena-system", ["controlplane"]);
    let identify = Arc::new(Proofs::new(own, news, Arc::default()));
    let Made { bundle, key } = certificate();
    let (certificates, newest) = watch::channel(Some(Arc::new(key)));
    let listener =
        Listener::tls("127.0.0.1:0".parse().unwrap(), &server_config(newest, &[]), data_planes).await.unwrap();
    let pod = |name: &str| Member { name: name.into(), address: listener.address() };
    let members = Members { me: "pod-b".into(), all: vec![pod("pod-a"), pod("pod-b")] };
    let members = watch::channel(members).1;
    let (mut tasks, mut shard) = (JoinSet::new(), watch::channel(Shard::alone()).1);
    let site = Site::of(listener, Options::default(), |server| {
        let peering = Peering { members, way: Way::Plain, identify };
        let joined = server.join(peering, Shared::of_nobody());
        (tasks, shard) = (joined.tasks, joined.shard);
    });
    (Secure { site, bundle, certificates, signer, _asked: asked }, shard, tasks)
}

/// What a pod's token claims that is of the control plane.
fn of_the_control_plane(pod: &str) -> Value {
    let mut claims = claims(Timestamp::now());
    claims["sub"] = json!("system:serviceaccount:kthena-system:controlplane");
    claims["kubernetes.io"]["serviceaccount"] = json!({"name": "controlplane", "uid": "sa-2"});
    claims["kubernetes.io"]["pod"]["uid"] = json!(pod);
    claims
}

#[tokio::test]
async fn c16_a_replica_is_let_in_with_the_token_of_its_pod_and_reads_it_from_its_file() {
    let (b, b_shares, _tasks) = with_peers().await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, b.signer.token(&of_the_control_plane("pod-a")) + "\n").unwrap();
    let members = watch::channel(Members {
        me: "pod-a".into(),
        all: vec![Member { name: "pod-b".into(), address: b.site.address }],
    });
    let (bundle, trusted) = watch::channel("".into());
    let way = Way::Tls { bundle: trusted, domain: "control".into(), token };
    let peering = Peering { members: members.1, way, identify: Arc::new(Local) };
    let mut talking = JoinSet::new();
    let a = Site::of(Listener::plain("127.0.0.1:0".parse().unwrap()).await.unwrap(), Options::default(), |server| {
        talking = server.join(peering, Shared::of_nobody()).tasks;
    });
    a.publish("a");
    assert_eq!(b_shares.borrow().members.len(), 1, "nothing is trusted before there is a CA");
    bundle.send_replace(b.bundle.as_str().into());
    until("b hears a", || b_shares.borrow().members.len() == 2).await;
}

#[tokio::test]
async fn a_data_plane_is_no_replica_and_a_replica_no_data_plane() {
    let (b, b_shares, _tasks) = with_peers().await;
    let of_a_data_plane = b.signer.token(&claims(Timestamp::now()));
    let of_a = b.signer.token(&of_the_control_plane("pod-a"));
    let tell = async |token: Option<&str>, member: &str| {
        let report = PeerReport { epoch: 5, member: member.to_owned(), ..PeerReport::default() };
        let mut request = Request::new(futures_util::stream::iter([report]));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let mut client = PeersClient::new(b.connect(&b.bundle).await.unwrap());
        client.tell(request).await.map(drop).map_err(|status| status.code())
    };
    assert_eq!(tell(None, "pod-a").await, Err(Code::Unauthenticated));
    assert_eq!(tell(Some(&of_a_data_plane), "pod-a").await, Err(Code::Unauthenticated));
    assert_eq!(tell(Some(&of_a), "pod-c").await, Err(Code::PermissionDenied), "it says to be another");
    assert_eq!(tell(Some(&of_a), "pod-a").await, Ok(()));
    assert_eq!(b.join(Some(&format!("Bearer {of_a}"))).await.unwrap_err().code(), Code::Unauthenticated);
    assert!(b.join(Some(&format!("Bearer {of_a_data_plane}"))).await.is_ok());
    assert_eq!(b_shares.borrow().members.len(), 1);
}

#[tokio::test]
async fn a_control_plane_that_is_alone_hears_no_peers() {
    let secure = Secure::start().await;
    let mut client = PeersClient::new(secure.connect(&secure.bundle).await.unwrap());
    let refused = client.tell(futures_util::stream::iter([PeerReport::default()])).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

/// Many more than there is room for, each with what has no end: nothing at all, or the begin of a handshake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_that_say_nothing_keep_nobody_waiting() {
    const ROOM: usize = 16;
    const STRANGERS: usize = 3 * ROOM;
    let secure = Secure::with(Options { strangers: ROOM, ..Options::default() }).await;
    let begin = Instant::now();
    let mut strangers = Vec::new();
    for n in 0..STRANGERS {
        let mut stranger = TcpStream::connect(secure.site.address).await.unwrap();
        if n % 2 == 0 {
            stranger.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
        }
        strangers.push(stranger);
    }
    secure.join(Some(&secure.bearer(3_600))).await.unwrap();
    let took = begin.elapsed();
    println!("let in {took:?} after the first of {STRANGERS} strangers");
    assert!(took < Duration::from_secs(8), "{took:?}");
    // Whoever came first made room, and who came last goes too when its time is over.
    let ended = tokio::time::timeout(Duration::from_secs(1), strangers[0].read(&mut [0])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    let mut last = strangers.pop().unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), last.read(&mut [0])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
}

#[tokio::test]
async fn who_comes_in_and_asks_for_nothing_makes_room() {
    let secure = Secure::with(Options { strangers: 1, ..Options::default() }).await;
    let _idle = secure.connect(&secure.bundle).await.unwrap();
    let begin = Instant::now();
    // Of those whose they are known there may be more.
    let _one = secure.join(Some(&secure.bearer(3_600))).await.unwrap();
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(8), "{took:?}");
    let _two = secure.join(Some(&secure.bearer(3_600))).await.unwrap();
    assert_eq!(secure.site.streams(), 2);
}

#[tokio::test]
async fn the_end_does_not_wait_for_strangers() {
    let mut secure = Secure::start().await;
    let _silent = TcpStream::connect(secure.site.address).await.unwrap();
    let _idle = secure.connect(&secure.bundle).await.unwrap();
    let mut plane = secure.join(Some(&secure.bearer(3_600))).await.unwrap();
    secure.site.stop().await;
    assert_eq!(plane.ended().await.unwrap_err().code(), Code::Unavailable);
    drop(plane);
    until("the server has ended", || secure.site.has_ended()).await;
    // Nor for one that has no handshake to do and is past the door.
    let mut site = Site::start(Options::default()).await;
    let _silent = TcpStream::connect(site.address).await.unwrap();
    drop(site.join().await);
    site.stop().await;
    until("the server has ended", || site.has_ended()).await;
}
