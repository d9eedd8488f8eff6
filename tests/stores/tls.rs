//! The way to the server is protected.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use banyan::runtime::remote::RemoteError;
use banyan::sandbox::postgres::OPERATOR;
use banyan::sandbox::postgres::agents::issuer;
use banyan::stores::postgres::{Credentials, Postgres};
use banyan::stores::{Store, StoreError};
use rcgen::{CertificateParams, KeyPair};

use crate::world::{A, World, world};

/// The server at that host, by TLS.
fn store(world: &World, host: &str, ca: &str) -> Postgres {
    let mut spec = world.pair.spec(A, "ledger");
    for site in spec.sites.values_mut() {
        site.tls = None;
        site.host = host.to_owned();
    }
    let credentials = Credentials::new(OPERATOR, world.pair.password(), Some(ca.as_bytes().to_vec()));
    Postgres::new(&spec, "aws-us-east-1", "aws-us-east-1", credentials, "spec.stores[ledger].postgres")
        .expect("a store")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_show_who_it_is_is_not_told_a_password() {
    let Some(world) = world().await else { return };
    let issuer = issuer().expect("an issuer");
    // Without TLS at the server nothing is sent.
    let error = store(&world, "127.0.0.1", &issuer.pem()).read().await.expect_err("it has no TLS");
    assert!(matches!(error, StoreError::Remote(RemoteError::Unreachable(_))), "{error:?}");

    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let data = world.pair.servers[A].data();
    let owner = std::fs::metadata(data).expect("a folder");
    for (name, text) in [("server.crt", certificate.pem()), ("server.key", key.serialize_pem())] {
        let file = data.join(name);
        std::fs::write(&file, text).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("permissions");
        std::os::unix::fs::chown(&file, Some(owner.uid()), Some(owner.gid())).expect("an owner");
    }
    if world.pair.servers[A].sql("alter system set ssl = on").await.is_err() {
        println!("skipped: this PostgreSQL was built without TLS");
        return;
    }
    world.sql(A, "select pg_reload_conf()").await;
    let reading = async || store(&world, "localhost", &issuer.pem()).read().await;
    let begin = std::time::Instant::now();
    while reading().await.is_err() {
        assert!(begin.elapsed() < crate::world::PATIENCE, "{:?}", reading().await);
    }
    // Another issuer, another name, no certificate at all.
    let other = self::issuer().expect("an issuer");
    for (host, ca) in [("localhost", other.pem()), ("127.0.0.1", issuer.pem()), ("localhost", String::new())]
    {
        let error = store(&world, host, &ca).read().await.expect_err(host);
        assert!(matches!(error, StoreError::Remote(RemoteError::Unreachable(_))), "{error:?}");
        println!("{host}: {error}");
    }
}
