//! A certificate authority for one run, the server's and the administrator's certificates, and the key of service account tokens.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use kubelet::{kubeconfig, plan};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::json;

pub(super) const AUTHORITY: &str = "ca.crt";
pub(super) const SERVER: &str = "server";
pub(super) const KUBECONFIG: &str = "admin.kubeconfig";

/// Where each is.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) authority: PathBuf,
    pub(super) server: Pair,
    pub(super) admin: Pair,
    pub(super) tokens: PathBuf,
    pub(super) tokens_public: PathBuf,
}

#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

pub(super) fn write(folder: &Path) -> Result<Files> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "test cluster");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let authority = folder.join(AUTHORITY);
    fs::write(&authority, params.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(params, key);

    let names = ["localhost", "127.0.0.1", "kubernetes.default.svc"].map(str::to_owned);
    // As the nodes of a bed and their pods know it.
    let addresses = [plan::BED, plan::API_SERVER].map(|address| address.to_string());
    let mut server = CertificateParams::new([&names[..], &addresses].concat())?;
    server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mut admin = CertificateParams::default();
    admin.distinguished_name.push(DnType::CommonName, "admin");
    // The group that RBAC binds to everything.
    admin.distinguished_name.push(DnType::OrganizationName, "system:masters");
    admin.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];

    let tokens = KeyPair::generate()?;
    let files = Files {
        authority,
        server: sign(folder, SERVER, &server, &issuer)?,
        admin: sign(folder, "admin", &admin, &issuer)?,
        tokens: folder.join("tokens.key"),
        tokens_public: folder.join("tokens.pub"),
    };
    fs::write(&files.tokens, tokens.serialize_pem())?;
    fs::write(&files.tokens_public, tokens.public_key_pem())?;
    Ok(files)
}

fn sign(folder: &Path, name: &str, params: &CertificateParams, issuer: &Issuer<'_, KeyPair>) -> Result<Pair> {
    let key = KeyPair::generate()?;
    let pair = Pair { certificate: folder.join(format!("{name}.crt")), key: folder.join(format!("{name}.key")) };
    fs::write(&pair.certificate, params.signed_by(&key, issuer)?.pem())?;
    fs::write(&pair.key, key.serialize_pem())?;
    Ok(pair)
}

pub(super) fn write_admin(folder: &Path, files: &Files, port: u16) -> Result<PathBuf> {
    let user = json!({"client-certificate": files.admin.certificate, "client-key": files.admin.key});
    let path = folder.join(KUBECONFIG);
    fs::write(&path, kubeconfig::text(&format!("https://127.0.0.1:{port}"), &files.authority, &user))?;
    Ok(path)
}
