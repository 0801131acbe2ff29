//! Whether the API server comes through to our webhook: it is asked, as a dry run, to store a route that only the webhook refuses.
//!
//! That way the whole path is tried: the configuration is there, its bundle matches the certificate, the Service leads here, and no network
//! policy is between. It needs the right to create ModelRoutes in our own namespace.

use std::time::Duration;

use kube::api::{Api, PostParams};
use kube::{Client, Error, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::crd::ModelRoute;

const NAME: &str = "kthena-webhook-probe";
/// What has the label goes to the webhook by a Service that also leads to control planes that are not ready; all else by one that does not.
const LABEL: &str = "networking.serving.volcano.sh/webhook-probe";
/// The field that only we refuse: it is no regex, and neither schema nor CEL can tell.
const FIELD: &str = "spec.rules[0].modelMatch.uri.regex";
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// The API server gives a webhook 5 s.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Whether the API server has come through, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// It has. It stays so: what becomes of the API server later takes no replica out of service.
    Reached,
    /// It has not.
    Not(String),
}

/// Tries until the API server has come through, and tells how it stands. The future ends then.
pub fn reach(client: Client, namespace: String) -> (watch::Receiver<Reach>, impl Future<Output = ()> + Send) {
    let (told, receiver) = watch::channel(Reach::Not("the API server was not asked yet".to_owned()));
    let trying = async move {
        let routes = Api::namespaced(client, &namespace);
        let mut pause = FIRST_PAUSE;
        loop {
            let reach = ask(&routes).await;
            if told.send_replace(reach.clone()) != reach {
                match &reach {
                    Reach::Reached => tracing::info!("the API server has reached the webhook"),
                    Reach::Not(why) => tracing::warn!(why, "the API server has not reached the webhook"),
                }
            }
            if reach == Reach::Reached {
                return;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    };
    (receiver, trying)
}

async fn ask(routes: &Api<ModelRoute>) -> Reach {
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    match timeout(ANSWER_TIME, routes.create(&parameters, &probe())).await {
        Ok(answer) => meaning(answer),
        Err(_) => Reach::Not(format!("the API server did not answer within {ANSWER_TIME:?}")),
    }
}

fn probe() -> ModelRoute {
    let rule = json!({"modelMatch": {"uri": {"regex": "("}}, "targetModels": [{"modelServerName": NAME}]});
    let spec = json!({"modelName": NAME, "rules": [rule]});
    let mut probe = ModelRoute::new(NAME, serde_json::from_value(spec).expect("it has the fields of a ModelRoute"));
    probe.labels_mut().insert(LABEL.to_owned(), "true".to_owned());
    probe
}

fn meaning(answer: Result<ModelRoute, Error>) -> Reach {
    Reach::Not(match answer {
        Err(Error::Api(status))
            if status.message.starts_with("admission webhook") && status.message.contains(FIELD) =>
        {
            return Reach::Reached;
        }
        Ok(_) => "the API server did not ask: is the ValidatingWebhookConfiguration there, with rules for ModelRoutes?"
            .into(),
        Err(Error::Api(status)) if status.code == 403 && !status.message.starts_with("admission webhook") => {
            format!(
                "the right to create ModelRoutes in our own namespace is needed to ask for a dry run: {}",
                status.message
            )
        }
        Err(Error::Api(status)) if status.code == 404 => {
            format!("are the CustomResourceDefinitions installed? {}", status.message)
        }
        Err(Error::Api(status)) => status.message.clone(),
        Err(error) => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;
    use crate::object::{Kind, Unknown, admit};

    fn check(code: u16, message: &str, expected: &str) {
        let status = Status { code, ..Status::failure(message, "") };
        match meaning(Err(Error::Api(status.boxed()))) {
            Reach::Reached => assert_eq!(expected, "reached", "{message}"),
            Reach::Not(why) => assert!(why.contains(expected), "{why}"),
        }
    }

    #[test]
    fn only_our_own_refusal_means_that_it_came_through() {
        let ours = format!("admission webhook \"validate.kthena.io\" denied the request: {FIELD}: does not compile");
        check(422, &ours, "reached");
        check(422, &format!("ModelRoute is invalid: {FIELD}: does not compile"), "ModelRoute is invalid");
        check(403, "admission webhook \"policy.example.org\" denied the request: no", "policy.example.org");
        check(500, "failed calling webhook: connection refused", "connection refused");
        check(404, "the server could not find the requested resource", "CustomResourceDefinitions");
        assert!(matches!(meaning(Ok(probe())), Reach::Not(why) if why.contains("did not ask")));
    }

    #[test]
    fn the_probe_is_refused_for_that_field_alone() {
        let problems = admit(Kind::ModelRoute, serde_json::to_value(probe()).unwrap(), Unknown::Drop).unwrap_err();
        assert_eq!(problems.iter().map(|problem| problem.path.as_str()).collect::<Vec<_>>(), [FIELD]);
    }
}
