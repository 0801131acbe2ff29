//! The control plane: custom resources in, tables out.
//!
//! An object goes through [`object::admit`] before anything else looks at it, whether it comes from a file, from the API
//! server or from an admission request: nulls and defaults as the API server treats them, then the schema, then the kind's
//! own `validate`. All problems are said at once.

pub mod admin;
mod api_server;
pub mod autoscaling_policy;
pub mod autoscaling_policy_binding;
pub mod certificates;
mod chance;
pub mod cli;
pub mod config;
pub mod crd;
pub mod definitions;
pub mod engine;
pub mod explain;
pub mod external_model_provider;
pub mod identity;
mod kept;
pub mod kv;
pub mod lease;
pub mod metrics;
pub mod model_booster;
pub mod model_files;
pub mod model_route;
pub mod model_server;
pub mod model_serving;
pub mod naming;
pub mod object;
pub mod peer;
pub mod problem;
pub mod process;
pub mod publish;
mod quarantine;
mod refusal;
mod report;
pub mod run;
pub mod source;
pub mod status;
pub mod valid;
pub mod wait;
pub mod webhook;
pub mod world;
