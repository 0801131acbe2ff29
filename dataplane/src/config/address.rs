//! A control plane's address, and how it is spoken to there.

use std::fmt;
use std::net::IpAddr;

/// Host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

/// What an address begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Nothing, or `http://`: plain text, so only on loopback.
    Plain,
    /// `https://`
    Tls,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl Address {
    /// Reads `https://HOST:PORT`, or on loopback `HOST:PORT`; the error is a sentence.
    pub fn parse(typed: &str) -> Result<(Scheme, Self), String> {
        let form = || {
            format!(
                "`{typed}` is not an address; write https://HOST:PORT, or on this machine HOST:PORT, as 127.0.0.1:15010"
            )
        };
        let (scheme, rest) = match typed.strip_prefix("https://") {
            Some(rest) => (Scheme::Tls, rest),
            None => (Scheme::Plain, typed.strip_prefix("http://").unwrap_or(typed)),
        };
        let (host, port) = rest.rsplit_once(':').ok_or_else(form)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(form)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host).to_owned();
        if !is_host(&host) || bare.is_some() != host.contains(':') {
            return Err(form());
        }
        if scheme == Scheme::Plain && !is_loopback(&host) {
            return Err(format!(
                "`{host}` is not on this machine, and without https:// the stream is plain text; write https://{rest}"
            ));
        }
        Ok((scheme, Self { host, port }))
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// An IP address, or a name as certificates have them.
pub(super) fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (1..=63).contains(&label.len()) && label.chars().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.parse::<IpAddr>().is_ok() || (text.len() <= 253 && text.split('.').all(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(typed: &str, expected: Result<(Scheme, &str), &str>) {
        match (Address::parse(typed), expected) {
            (Ok((scheme, address)), Ok(expected)) => assert_eq!((scheme, address.to_string().as_str()), expected),
            (Err(sentence), Err(expected)) => assert!(sentence.contains(expected), "{sentence}"),
            (got, _) => panic!("{typed}: {got:?}"),
        }
    }

    #[test]
    fn plain_text_stays_on_the_machine() {
        check("127.0.0.1:15010", Ok((Scheme::Plain, "127.0.0.1:15010")));
        check("http://127.0.0.9:1", Ok((Scheme::Plain, "127.0.0.9:1")));
        check("[::1]:15010", Ok((Scheme::Plain, "[::1]:15010")));
        check("localhost:15010", Ok((Scheme::Plain, "localhost:15010")));
        check("10.0.0.1:15010", Err("not on this machine"));
        check("http://control:15010", Err("write https://control:15010"));
        check("localhost.example.com:15010", Err("not on this machine"));
    }

    #[test]
    fn with_tls_it_may_go_anywhere() {
        check("https://127.0.0.1:15010", Ok((Scheme::Tls, "127.0.0.1:15010")));
        check("https://[fd00::1]:15010", Ok((Scheme::Tls, "[fd00::1]:15010")));
        check("https://kthena.kthena-system.svc:443", Ok((Scheme::Tls, "kthena.kthena-system.svc:443")));
    }

    #[test]
    fn what_is_no_address_says_how_one_is_written() {
        for typed in ["127.0.0.1", "127.0.0.1:0", "127.0.0.1:x", "::1:15010", ":15010", "127.0.0.1/a:15010", ""] {
            check(typed, Err("HOST:PORT"));
            check(&format!("https://{typed}"), Err("HOST:PORT"));
        }
        for typed in ["https://a b:1", "https://http://a:1", "https://user@a:1", "ftp://a:1", "https://-a:1", "[a]:1"] {
            check(typed, Err("HOST:PORT"));
        }
    }
}
