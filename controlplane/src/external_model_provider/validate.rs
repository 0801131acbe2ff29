//! What the schema's CEL rules say, and what CEL cannot say.

use crate::crd::{ExternalModelProviderSpec, ProviderAuth};
use crate::naming::is_header_name;
use crate::problem::{At, Problem, Problems, SPEC};
use crate::valid::Valid;

/// Headers that are the proxy's own business. Lower case.
const RESERVED: [&str; 13] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-api-key",
    "host",
    "content-length",
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "trailer",
    "te",
];

/// Checks all of a provider. Its Secret is not looked for: it may come later.
pub fn validate(spec: &ExternalModelProviderSpec) -> Result<Valid<ExternalModelProviderSpec>, Vec<Problem>> {
    let mut problems = Problems::default();
    base_url(&mut problems, &SPEC.field("baseURL"), &spec.base_url);
    let headers_at = SPEC.field("headers");
    for (name, value) in &spec.headers {
        let at = headers_at.key(name);
        problems.require(is_header_name(name), &at, "is no header name: use letters, digits and !#$%&'*+-.^_`|~");
        let reserved = RESERVED.contains(&name.to_ascii_lowercase().as_str());
        problems.require(!reserved, &at, "is set by the proxy: remove it, credentials belong into auth.secretRef");
        let clean = value.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f));
        problems.require(clean, &at, "the value must not contain line breaks or other control characters");
    }
    if let Some(ProviderAuth { secret_ref, .. }) = &spec.auth {
        let auth_at = SPEC.field("auth");
        let at = auth_at.field("secretRef");
        problems.require(!secret_ref.name.is_empty(), &at.field("name"), "secretRef.name must name a Secret");
        problems.require(!secret_ref.key.is_empty(), &at.field("key"), "secretRef.key must name a key of the Secret");
        let sentence = "secretRef.optional must be false or unset: without its credential a provider is not ready";
        problems.require(secret_ref.optional != Some(true), &at.field("optional"), sentence);
    }
    problems.or(Valid::new(spec.clone()))
}

fn base_url(problems: &mut Problems, at: &At<'_>, url: &str) {
    let Some(rest) = url.strip_prefix("https://") else {
        problems.add(at, "baseURL must use https: write https://host[:port][/path]");
        return;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    problems.require(
        !authority.contains('@') && !rest.contains(['?', '#']),
        at,
        "baseURL must not contain userinfo, query, or fragment: credentials belong into auth.secretRef",
    );
    let uri = url.parse::<http::Uri>();
    let host = uri.as_ref().ok().and_then(|uri| uri.host()).unwrap_or_default();
    // `http` takes anything after the colon as a port, and `parse` a sign.
    let port = authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map(|(_, port)| port);
    let is_port = |text: &str| !text.starts_with('+') && text.parse::<u16>().is_ok_and(|port| port != 0);
    let fits = !host.is_empty() && port.is_none_or(is_port);
    problems.require(fits, at, "baseURL must name a host: write https://host[:port][/path]");
}
