//! Certificates for tests of what serves them.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use super::held::Held;
use super::issue::issue;
use super::plan::{Step, Wanted};
use super::tls::certified;
use super::{Contents, Times};

/// A leaf, and what its clients trust.
#[derive(Debug)]
pub struct Made {
    /// PEM.
    pub bundle: String,
    /// With its certificate.
    pub key: CertifiedKey,
}

/// Of a CA of its own.
pub fn made(hosts: &BTreeSet<String>) -> Made {
    let contents = next(Step::BeginAnew, &Contents::default(), hosts);
    Made { key: served(&contents), bundle: contents.bundle }
}

/// Certificates that are replaced step by step, as [`super::keep`] does it over months.
#[derive(Debug)]
pub struct Rotation {
    hosts: BTreeSet<String>,
    contents: Contents,
    served: watch::Sender<Option<Arc<CertifiedKey>>>,
}

impl Rotation {
    /// A CA and a leaf of it.
    pub fn begin(hosts: BTreeSet<String>) -> Self {
        let contents = next(Step::BeginAnew, &Contents::default(), &hosts);
        let served = watch::Sender::new(Some(Arc::new(served(&contents))));
        Self { hosts, contents, served }
    }

    /// For [`super::server_config`].
    pub fn newest(&self) -> watch::Receiver<Option<Arc<CertifiedKey>>> {
        self.served.subscribe()
    }

    /// What clients are to trust, as PEM.
    pub fn bundle(&self) -> &str {
        &self.contents.bundle
    }

    /// A second CA joins the bundle.
    pub fn add_ca(&mut self) {
        self.step(Step::AddCa);
    }

    /// The newest CA's leaf is served.
    pub fn make_leaf(&mut self) {
        self.step(Step::MakeLeaf);
    }

    /// The newest CA alone stays.
    pub fn drop_old_ca(&mut self) {
        self.step(Step::DropOldCa);
    }

    fn step(&mut self, step: Step) {
        self.contents = next(step, &self.contents, &self.hosts);
        self.served.send_replace(Some(Arc::new(served(&self.contents))));
    }
}

fn next(step: Step, contents: &Contents, hosts: &BTreeSet<String>) -> Contents {
    let wanted = Wanted { hosts, times: Times::DEFAULT };
    issue(step, contents, &Held::read(contents), wanted, Timestamp::now()).expect("the hosts are names")
}

fn served(contents: &Contents) -> CertifiedKey {
    certified(contents).expect("it was just made")
}
