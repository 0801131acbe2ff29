//! What an API server says when it refuses.

use std::time::Duration;

use kube::Error;
use kube::core::Status;

/// What a server may ask for at most: nobody is to be put off for hours by one answer.
const LONGEST: Duration = Duration::from_secs(60);

/// Its sentence, without all else that it said.
pub(crate) fn sentence(error: &Error) -> String {
    match error {
        Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// How long it asks to be left alone.
pub(crate) fn retry_after(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    (seconds > 0).then(|| Duration::from_secs(seconds.into()).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks_for(seconds: u32) -> Option<Duration> {
        let details = serde_json::json!({"retryAfterSeconds": seconds});
        let details = serde_json::from_value(details).unwrap();
        retry_after(&Status { details: Some(details), ..Status::failure("slow down", "TooManyRequests") })
    }

    #[test]
    fn what_it_asks_for_is_done_within_reason() {
        assert_eq!(asks_for(0), None);
        assert_eq!(asks_for(7), Some(Duration::from_secs(7)));
        assert_eq!(asks_for(86_400), Some(LONGEST));
        assert_eq!(retry_after(&Status::failure("no", "")), None);
    }

    #[test]
    fn its_sentence_is_all_that_is_repeated() {
        let error = Error::Api(Status::failure("pods is forbidden", "Forbidden").boxed());
        assert_eq!(sentence(&error), "pods is forbidden");
    }
}
