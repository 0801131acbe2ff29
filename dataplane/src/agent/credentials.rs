//! What a stream by TLS needs, from its files. They are read for each stream: the kubelet puts a new token in place before the old one expires,
//! and a new bundle before the control plane's certificate is one of a new CA.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig};

use crate::config::Tls;

/// Of a file: a bundle holds a few certificates of about 1 KB.
const MOST_BYTES: u64 = 1 << 20;

/// By what the control plane is known, and by what it knows us.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) tls: ClientTlsConfig,
    pub(super) authorization: MetadataValue<Ascii>,
}

impl Credentials {
    /// The error is a sentence. The files are small and on this machine, so that the agent's thread may wait for them.
    pub(super) fn read(tls: &Tls) -> Result<Self, String> {
        let bundle = text(&tls.ca_file, "the CA bundle")?;
        if !bundle.contains("-----BEGIN CERTIFICATE-----") {
            return Err(format!("the CA bundle {} holds no certificate", tls.ca_file.display()));
        }
        let token = text(&tls.token_file, "the token")?;
        Ok(Self {
            tls: ClientTlsConfig::new().ca_certificate(Certificate::from_pem(bundle)).domain_name(&tls.server_name),
            authorization: bearer(token.trim())
                .map_err(|why| format!("the token {} {why}", tls.token_file.display()))?,
        })
    }
}

fn text(path: &Path, what: &str) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text));
    read.map_err(|error| format!("{what} {} cannot be read: {error}", path.display()))?;
    Ok(text)
}

fn bearer(token: &str) -> Result<MetadataValue<Ascii>, &'static str> {
    if token.is_empty() {
        return Err("is empty");
    }
    let is_plain = token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = format!("Bearer {token}").parse().ok().filter(|_| is_plain);
    let mut value: MetadataValue<Ascii> = value.ok_or("is no token: there is more than one word in it")?;
    // Neither compressed where others could guess at it, nor shown.
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word() {
        assert_eq!(bearer("a.b-c_d").unwrap().to_str().unwrap(), "Bearer a.b-c_d");
        assert_eq!(format!("{:?}", bearer("a.b.c").unwrap()), "Sensitive");
        assert_eq!(bearer(""), Err("is empty"));
        for bad in ["a b", "a\nb", "\u{e9}", "a\0"] {
            assert!(bearer(bad).unwrap_err().contains("is no token"), "{bad:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let folder = std::env::temp_dir().join(format!("kthena-credentials-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (ca_file, token_file) = (folder.join("ca.crt"), folder.join("token"));
        let tls = Tls { ca_file: ca_file.clone(), token_file: token_file.clone(), server_name: "control".into() };
        let expect = |sentence: &str| {
            let why = Credentials::read(&tls).unwrap_err();
            assert!(why.contains(sentence), "{why}");
        };
        expect("ca.crt cannot be read: No such file");
        std::fs::write(&ca_file, "not yet").unwrap();
        expect("ca.crt holds no certificate");
        std::fs::write(&ca_file, "-----BEGIN CERTIFICATE-----").unwrap();
        expect("token cannot be read: No such file");
        std::fs::write(&token_file, "\n").unwrap();
        expect("token is empty");
        std::fs::write(&token_file, "a.b.c\n").unwrap();
        assert_eq!(Credentials::read(&tls).unwrap().authorization.to_str().unwrap(), "Bearer a.b.c");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
