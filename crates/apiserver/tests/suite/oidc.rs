//! Users of an issuer on the loopback address, over real TLS, to the answer of the API.

use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use kybern_authn::fetch::{Fetch, Fetching};
use kybern_authn::oidc::{AuthenticationConfiguration, Oidc};
use kybern_authn::pki::{ClusterKeys, new_key_pem};
use kybern_authn::tls::{self, Identity};
use kybern_authn::{Anonymous, Union};
use kybern_client::http::{Fetcher, tls_config};
use kybern_testkit::{Builder, START, World};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::net::TcpListener;

/// The way that a server has to an issuer.
struct Way(Fetcher);

impl Fetch for Way {
    fn get<'a>(&'a self, url: &'a str) -> Fetching<'a> {
        Box::pin(async move { self.0.get(url).await.map(|b| b.to_vec()) })
    }
    fn post<'a>(&'a self, _: &'a str, _: Vec<u8>) -> Fetching<'a> {
        unreachable!("issuers are only read")
    }
}

/// What an issuer answers, by path.
type Pages = Arc<Mutex<BTreeMap<String, (u16, String)>>>;

/// An issuer with its key.
struct Issuer {
    url: String,
    pages: Pages,
    pem: String,
    ca: String,
}

impl Issuer {
    async fn start() -> Self {
        let now = machine_time();
        let keys = ClusterKeys::create(now).expect("keys");
        let issued = keys.serving_certificate("issuer", &[], "cluster.local", now).expect("issued");
        let tls = tls::api_server(Identity::new(&issued).expect("identity")).expect("settings");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://localhost:{}", listener.local_addr().expect("an address").port());
        let pages = Pages::default();
        tokio::spawn(serve(listener, Arc::new(tls), pages.clone()));
        let ca = keys.server_ca.certificate_pem();
        let issuer = Self { url, pages, pem: new_key_pem().expect("a key"), ca };
        issuer.publish();
        issuer
    }

    fn page(&self, path: &str, code: u16, text: String) {
        self.pages.lock().insert(path.to_owned(), (code, text));
    }

    fn publish(&self) {
        let discovery = json!({"issuer": self.url, "jwks_uri": format!("{}/keys", self.url)});
        self.page("/.well-known/openid-configuration", 200, discovery.to_string());
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(&self.key(), Algorithm::ES256).expect("a JWK")).expect("JSON");
        jwk["kid"] = "k1".into();
        self.page("/keys", 200, json!({"keys": [jwk]}).to_string());
    }

    fn key(&self) -> EncodingKey {
        EncodingKey::from_ec_pem(self.pem.as_bytes()).expect("a key")
    }

    /// A token for an hour of the world's time.
    fn token(&self, subject: &str) -> String {
        let now = START.parse::<jiff::Timestamp>().expect("a time").as_second();
        let claims = json!({"iss": self.url, "aud": "kybern", "sub": subject, "groups": ["devs"], "exp": now + 3600});
        let header = Header { kid: Some("k1".into()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &claims, &self.key()).expect("signed")
    }

    /// A world that believes this issuer, if it shows a certificate of `ca`.
    async fn world(&self, ca: &str) -> World {
        let config = json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
            "jwt": [{"issuer": {"url": self.url, "certificateAuthority": ca, "audiences": ["kybern"]},
                "claimMappings": {"username": {"claim": "sub", "prefix": "oidc:"},
                    "groups": {"claim": "groups", "prefix": "oidc:"}}}],
        });
        let config: AuthenticationConfiguration = serde_json::from_value(config).expect("a configuration");
        config.check("https://kubernetes.default.svc.cluster.local").expect("a good configuration");
        let way = |ca: &str| {
            let tls = tls_config(ca.as_bytes(), None)?;
            Ok::<_, kybern_client::http::Error>(Arc::new(Way(Fetcher::new(tls, None))) as Arc<dyn Fetch>)
        };
        let oidc = Oidc::new(config, way).expect("an authenticator");
        Builder::default().authenticator(Arc::new(Union::new(vec![Box::new(oidc)], Box::new(Anonymous)))).start().await
    }
}

#[expect(clippy::disallowed_methods, reason = "rustls judges certificates by the same clock")]
fn machine_time() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

async fn serve(listener: TcpListener, tls: Arc<rustls::ServerConfig>, pages: Pages) {
    let acceptor = tokio_rustls::TlsAcceptor::from(tls);
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, pages) = (acceptor.clone(), pages.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let found = pages.lock().get(request.uri().path()).cloned().unwrap_or((404, String::new()));
                async move {
                    let answer = http::Response::builder().status(found.0).header("location", "/elsewhere");
                    Ok::<_, Infallible>(answer.body(Full::new(bytes::Bytes::from(found.1))).expect("an answer"))
                }
            });
            let builder = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
            builder.serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

async fn code(world: &World, token: &str) -> u16 {
    world.call_as(token, "POST", WHO, &json!({})).await.code
}

#[tokio::test]
async fn a_user_of_an_issuer_is_known_to_the_api() {
    let issuer = Issuer::start().await;
    let world = issuer.world(&issuer.ca).await;
    let answer = world.call_as(&issuer.token("jane"), "POST", WHO, &json!({})).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    let user = answer.json()["status"]["userInfo"].clone();
    assert_eq!(
        (&user["username"], &user["groups"]),
        (&json!("oidc:jane"), &json!(["oidc:devs", "system:authenticated"]))
    );
    assert_eq!(code(&world, &format!("{}x", issuer.token("jane"))).await, 401);
    assert_eq!(code(&world, "a.b.c").await, 401);
    let review = json!({"spec": {"token": issuer.token("jane")}});
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let reviewed: Value = world.call_as(&issuer.token("root"), "POST", path, &review).await.json();
    assert_eq!(reviewed["status"]["user"]["username"], "oidc:jane", "{reviewed}");
}

#[tokio::test]
async fn an_issuer_is_believed_only_with_its_own_certificate_and_words() {
    let issuer = Issuer::start().await;
    let stranger = ClusterKeys::create(machine_time()).expect("keys").server_ca.certificate_pem();
    assert_eq!(code(&issuer.world(&stranger).await, &issuer.token("jane")).await, 401, "another CA");
    // a redirect is not followed, wherever it leads
    let world = issuer.world(&issuer.ca).await;
    let keys = issuer.pages.lock()["/keys"].1.clone();
    issuer.page("/elsewhere", 200, keys);
    issuer.page("/keys", 302, String::new());
    assert_eq!(code(&world, &issuer.token("jane")).await, 401, "a redirect");
    for (code_of, text) in [(500, String::new()), (200, "rubbish".into()), (200, " ".repeat(3 << 20))] {
        let world = issuer.world(&issuer.ca).await;
        issuer.page("/keys", code_of, text);
        assert_eq!(code(&world, &issuer.token("jane")).await, 401);
    }
    issuer.publish();
    assert_eq!(code(&issuer.world(&issuer.ca).await, &issuer.token("jane")).await, 201, "and then it is");
}
