//! Names and identities. A bare `String` never leaves the decoder.

use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps a name that has already been checked.
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(name.into())
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// `namespace/name` of a ModelRoute.
    RouteName
);
name!(
    /// `namespace/name` of a ModelServer: a group of engines that serve the same model.
    BackendName
);
name!(
    /// A model or LoRA adapter as clients or engines call it.
    ModelName
);
name!(
    /// A scheduler profile.
    ProfileName
);

/// What makes an endpoint the same endpoint across snapshots: a pod made anew is another one, and so is another
/// data-parallel rank of the same pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointKey {
    /// The pod's UID; in a snapshot without pods, the endpoint's name.
    pub uid: Arc<str>,
    /// The port that the engine listens on.
    pub port: u16,
    /// The data-parallel rank, 0 where there is only one.
    pub rank: u16,
}
