//! The first answer to each list, for those who are to see the past.

use std::collections::HashMap;

use bytes::Bytes;
use http::Uri;

/// By path and selectors: that a client asks for another version makes it no other list.
#[derive(Debug, Default)]
pub(super) struct History(HashMap<String, Bytes>);

impl History {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn first(&self, uri: &Uri) -> Option<Bytes> {
        self.0.get(&key(uri)).cloned()
    }

    pub(super) fn saw(&mut self, uri: &Uri, body: &Bytes) {
        self.0.entry(key(uri)).or_insert_with(|| body.clone());
    }
}

fn key(uri: &Uri) -> String {
    let pairs = uri.query().unwrap_or_default().split('&');
    let selectors = pairs.filter(|pair| pair.starts_with("labelSelector=") || pair.starts_with("fieldSelector="));
    std::iter::once(uri.path()).chain(selectors).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_list_at_another_version_has_the_first_answer() {
        let mut history = History::default();
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        history.saw(&uri("/api/v1/pods?limit=500&resourceVersion=0"), &Bytes::from_static(b"first"));
        history.saw(&uri("/api/v1/pods?limit=500"), &Bytes::from_static(b"second"));
        assert_eq!(history.first(&uri("/api/v1/pods?resourceVersion=7")).unwrap(), "first");
        assert_eq!(history.first(&uri("/api/v1/pods?labelSelector=a")), None);
    }
}
