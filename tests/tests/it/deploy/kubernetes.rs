//! The Kubernetes manifests: rendered by kubectl, checked against the schemas of Kubernetes, and against the
//! service.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::postgres::Postgres;
use e2e::process::built;
use e2e::workdir::Workdir;
use serde_json::Value;

use super::service::{Confined, Environment, check, seconds, setting, with_secrets};
use super::tools::{Written, copy, make_secrets, run};

/// The tools that `./test` installs.
const VALIDATE: &str = "../target/tools/kubernetes-validate/bin/kubernetes-validate";

/// The operator's folder, after `make-secrets`.
struct Installation {
    dir: Workdir,
    folder: PathBuf,
}

impl Installation {
    fn without_secrets() -> Self {
        let dir = Workdir::new();
        let folder = dir.path().join("kubernetes");
        copy(&super::deploy().join("kubernetes"), &folder);
        Self { dir, folder }
    }

    fn new() -> Self {
        let this = Self::without_secrets();
        make_secrets(&this.secrets()).unwrap_or_else(|why| panic!("{why}"));
        this
    }

    fn secrets(&self) -> PathBuf {
        self.folder.join("secrets")
    }

    fn render(&self) -> Result<Written, String> {
        let mut kubectl = Command::new("kubectl");
        run(kubectl.arg("kustomize").arg(&self.folder), "apt-get install kubernetes-client")
    }

    fn objects(&self) -> Objects {
        let rendered = self.render().unwrap_or_else(|why| panic!("{why}")).stdout;
        Objects(serde_saphyr::from_multiple(&rendered).expect("kubectl writes YAML"))
    }
}

/// All rendered objects.
struct Objects(Vec<Value>);

impl Objects {
    fn only(&self, kind: &str) -> &Value {
        let mut found = self.0.iter().filter(|object| object["kind"] == kind);
        let first = found.next().unwrap_or_else(|| panic!("a {kind}"));
        assert!(found.next().is_none(), "one {kind}");
        first
    }

    fn service(&self, name: &str) -> &Value {
        let found =
            self.0.iter().find(|object| object["kind"] == "Service" && object["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("a Service {name}"))
    }

    fn ingresses(&self) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(|object| object["kind"] == "Ingress")
    }

    /// The paths of all of them.
    fn paths(&self) -> Vec<&Value> {
        let rules = self.ingresses().map(|ingress| &ingress["spec"]["rules"][0]["http"]["paths"]);
        rules.flat_map(|paths| paths.as_array().expect("a list")).collect()
    }

    fn pod(&self) -> &Value {
        &self.only("Deployment")["spec"]["template"]["spec"]
    }

    fn container(&self) -> &Value {
        &self.pod()["containers"][0]
    }

    /// The container's environment, all from one `ConfigMap`.
    fn environment(&self) -> Environment {
        let settings = self.only("ConfigMap");
        let from = &self.container()["envFrom"];
        assert_eq!(from.as_array().expect("a list").len(), 1);
        assert_eq!(from[0]["configMapRef"]["name"], settings["metadata"]["name"], "the generated name");
        serde_json::from_value(settings["data"].clone()).expect("names and texts")
    }

    /// The mount path of the secrets; the files there are the generated ones.
    fn mounted(&self) -> &str {
        let (pod, secret) = (self.pod(), self.only("Secret"));
        assert_eq!(
            pod["volumes"][0]["secret"]["secretName"], secret["metadata"]["name"],
            "the generated name"
        );
        let mount = &self.container()["volumeMounts"][0];
        assert_eq!(mount["name"], pod["volumes"][0]["name"]);
        mount["mountPath"].as_str().expect("a path")
    }

    fn container_port(&self, name: &Value) -> u64 {
        let ports = self.container()["ports"].as_array().expect("a list");
        let port = ports.iter().find(|port| port["name"] == *name).unwrap_or_else(|| panic!("a port {name}"));
        port["containerPort"].as_u64().expect("a number")
    }
}

fn port_of(address: &str) -> u64 {
    address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("address:port")
}

#[test]
fn manifests_match_the_kubernetes_schemas() {
    let installation = Installation::new();
    let file = installation.dir.path().join("rendered.yaml");
    fs::write(&file, installation.render().unwrap_or_else(|why| panic!("{why}")).stdout)
        .expect("our own folder");
    let validate = Path::new(env!("CARGO_MANIFEST_DIR")).join(VALIDATE);
    let checked = run(
        Command::new(validate)
            .args(["--strict", "--quiet"])
            .arg(file)
            .arg(installation.folder.join("example/ping-service.yaml")),
        "./test installs it, with `python3 -m venv` and pip",
    );
    checked.unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn every_manifest_is_applied() {
    let installation = Installation::new();
    let listed = fs::read_to_string(installation.folder.join("kustomization.yaml")).expect("the list");
    let listed: Value = serde_saphyr::from_str(&listed).expect("YAML");
    for entry in fs::read_dir(&installation.folder).expect("our own folder") {
        let name = entry.expect("our own folder").file_name().into_string().expect("a name");
        let is_listed = listed["resources"].as_array().expect("a list").contains(&Value::from(&*name));
        let is_other = ["kustomization.yaml", "secrets", "example"].contains(&&*name);
        assert!(is_listed || is_other, "{name} is not applied");
    }
}

#[test]
fn manifests_require_secrets() {
    let installation = Installation::without_secrets();
    let refused = installation.render().err().expect("no secrets, no manifests");
    assert!(refused.contains("secrets/"), "{refused}");

    make_secrets(&installation.secrets()).unwrap_or_else(|why| panic!("{why}"));
    let key = fs::read(installation.secrets().join("master.key")).expect("a master key");
    make_secrets(&installation.secrets()).err().expect("a master key is never overwritten");
    assert_eq!(fs::read(installation.secrets().join("master.key")).expect("a master key"), key);
}

#[test]
fn pods_get_settings_that_the_service_accepts() {
    let installation = Installation::new();
    let objects = installation.objects();
    let environment = with_secrets(&objects.environment(), objects.mounted(), &installation.secrets());
    let effective = check(&[], &environment);
    for file in objects.environment().values().filter_map(|value| value.strip_prefix(objects.mounted())) {
        let generated = &objects.only("Secret")["data"][file.trim_start_matches('/')];
        assert!(generated.is_string(), "{file} is in the Secret");
    }

    for (name, key) in [("public", "public_addr"), ("admin", "admin_addr")] {
        assert_eq!(objects.container_port(&name.into()), port_of(setting(&effective, key)), "{key}");
    }
    for ingress in objects.ingresses() {
        let host = ingress["spec"]["rules"][0]["host"].as_str().expect("a host");
        assert_eq!(setting(&effective, "issuer"), format!("https://{host}"), "the issuer is the Ingress");
        assert_eq!(ingress["spec"]["tls"][0]["hosts"][0], host);
    }

    // Drained before it is killed: preStop, drain_delay, 30 s for requests in flight, 2 s for the database.
    let before = objects.container()["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().expect("seconds");
    let timeout = objects.pod()["terminationGracePeriodSeconds"].as_u64().expect("seconds");
    assert!(timeout > before + seconds(&effective, "drain_delay") + 30 + 2, "{timeout} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn pod_works_without_privileges_on_a_read_only_root() {
    let installation = Installation::new();
    let objects = installation.objects();
    let container = objects.container();
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["capabilities"]["drop"][0], "ALL");
    assert_eq!(objects.pod()["securityContext"]["runAsNonRoot"], true);
    assert_eq!(container["args"], serde_json::json!(["serve"]));

    let url = Postgres::shared().create_database().url();
    fs::write(installation.secrets().join("database-url"), url).expect("our own folder");
    let environment = with_secrets(&objects.environment(), objects.mounted(), &installation.secrets());
    let mut service = Confined::start(installation.dir.path(), &environment);
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let asked = &container[probe]["httpGet"];
        assert_eq!(asked["port"], "public", "{probe}");
        service.answers(asked["path"].as_str().expect("a path")).await;
    }
    let password = fs::read_to_string(installation.secrets().join("admin-password")).expect("a password");
    let login = service.answers("/livez").await.login("admin", &password).await.expect("an answer");
    login.assert_status(http::StatusCode::OK);
}

#[test]
fn probes_use_the_right_endpoints() {
    let objects = Installation::new().objects();
    let path = |probe: &str| objects.container()[probe]["httpGet"]["path"].clone();
    assert_eq!(path("readinessProbe"), "/readyz");
    // A restart because of an unavailable database would lose the keys in memory.
    assert_eq!((path("livenessProbe"), path("startupProbe")), ("/livez".into(), "/livez".into()));
    // Otherwise Services of the namespace become AUTH_ variables.
    assert_eq!(objects.pod()["enableServiceLinks"], false);
}

#[test]
fn unready_replicas_get_only_requests_served_from_memory() {
    let objects = Installation::new().objects();
    let mut from_memory = Vec::new();
    let mut issuing = Vec::new();
    for path in objects.paths() {
        let backend = &path["backend"]["service"];
        let service = objects.service(backend["name"].as_str().expect("a name"));
        let ports = service["spec"]["ports"].as_array().expect("a list");
        assert!(ports.iter().any(|port| port["name"] == backend["port"]["name"]), "{backend}");
        let wanted = &objects.only("Deployment")["spec"]["template"]["metadata"]["labels"];
        assert_eq!(service["spec"]["selector"], *wanted, "the Service finds the pods");
        if service["spec"]["publishNotReadyAddresses"] == true {
            from_memory.push(path["path"].as_str().expect("a path"));
        } else {
            issuing.push(path["path"].as_str().expect("a path"));
        }
    }
    assert_eq!(from_memory, ["/.well-known", "/v1/revocations", "/v1/verify"]);
    assert_eq!(issuing, ["/", "/v1/refresh", "/v1/logout"]);
}

/// The ingress-nginx setting for requests that were sent without a response.
#[test]
fn only_repeatable_requests_are_retried_and_timeouts_are_short() {
    let objects = Installation::new().objects();
    let (mut asked_elsewhere, mut repeated) = (Vec::new(), Vec::new());
    for ingress in objects.ingresses() {
        let annotation = |name: &str| {
            let value = &ingress["metadata"]["annotations"][format!("nginx.ingress.kubernetes.io/{name}")];
            value.as_str().unwrap_or_else(|| panic!("{name} is set"))
        };
        assert_eq!(annotation("proxy-read-timeout"), "10");
        assert_eq!(annotation("proxy-next-upstream-tries"), "2");
        assert_eq!(annotation("proxy-connect-timeout"), "1");
        let causes: Vec<&str> = annotation("proxy-next-upstream").split(' ').collect();
        assert_eq!(causes[..2], ["error", "timeout"]);
        if causes.len() > 2 {
            assert_eq!(causes[2], "http_503");
            assert_eq!(annotation("proxy-next-upstream-timeout"), "2");
            asked_elsewhere.extend(ingress["spec"]["rules"][0]["http"]["paths"].as_array().expect("a list"));
        }
        if causes.len() > 3 {
            assert_eq!(causes[3..], ["non_idempotent"]);
            repeated.extend(ingress["spec"]["rules"][0]["http"]["paths"].as_array().expect("a list"));
        }
    }
    let exact = |paths: Vec<&Value>| -> Vec<String> {
        assert!(paths.iter().all(|path| path["pathType"] == "Exact"), "{paths:?}");
        paths.iter().map(|path| path["path"].as_str().expect("a path").to_owned()).collect()
    };
    assert_eq!(exact(asked_elsewhere), ["/v1/refresh", "/v1/logout", "/v1/verify"]);
    assert_eq!(exact(repeated), ["/v1/refresh", "/v1/logout"]);
}

#[test]
fn admin_port_is_open_to_selected_pods_only() {
    let objects = Installation::new().objects();
    let policy = &objects.only("NetworkPolicy")["spec"];
    assert_eq!(policy["podSelector"], objects.only("Deployment")["spec"]["selector"]);
    for rule in policy["ingress"].as_array().expect("a list") {
        let opens: Vec<u64> = rule["ports"]
            .as_array()
            .expect("a rule without ports opens all of them")
            .iter()
            .map(|port| objects.container_port(&port["port"]))
            .collect();
        if opens.contains(&objects.container_port(&"admin".into())) {
            let chosen = &rule["from"][0]["podSelector"]["matchLabels"];
            assert!(chosen.as_object().is_some_and(|labels| !labels.is_empty()), "{rule:#}");
        }
    }
    for path in objects.paths() {
        assert_ne!(path["backend"]["service"]["name"], "auth-service-admin");
    }
}

#[test]
fn autoscaler_and_disruption_budget_select_these_pods() {
    let objects = Installation::new().objects();
    let deployment = objects.only("Deployment");
    let scaler = &objects.only("HorizontalPodAutoscaler")["spec"];
    assert_eq!(scaler["scaleTargetRef"]["name"], deployment["metadata"]["name"]);
    // Applying the manifests again must not undo its decision; and it uses shares of the requested CPU.
    assert!(deployment["spec"]["replicas"].is_null());
    assert!(objects.container()["resources"]["requests"]["cpu"].is_string());
    // 17 connections per pod must fit into the connections that PostgreSQL allows ordinary roles by default.
    let most = scaler["maxReplicas"].as_u64().expect("a number");
    let surge = deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"].as_u64().expect("a number");
    assert!((most + surge) * 17 <= 100 - 3, "{most} replicas, and {surge} more during an update");
    let budget = &objects.only("PodDisruptionBudget")["spec"];
    assert_eq!(budget["selector"], deployment["spec"]["selector"]);
    assert!(scaler["minReplicas"].as_u64() > budget["maxUnavailable"].as_u64());
}

#[test]
fn example_gets_known_variables_and_is_probed_on_its_port() {
    let manifest = fs::read_to_string(super::deploy().join("kubernetes/example/ping-service.yaml"));
    let objects = Objects(serde_saphyr::from_multiple(&manifest.expect("the example")).expect("YAML"));
    let container = objects.container();
    let mut help = Command::new(built("ping-service", "-p ping-service"));
    let help = run(help.arg("--help"), "cargo").unwrap_or_else(|why| panic!("{why}")).stdout;
    // Without the line breaks of long lines.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for variable in container["env"].as_array().expect("a list") {
        let name = variable["name"].as_str().expect("a name");
        assert!(help.contains(&format!("[env: {name}")), "{name}\n{help}");
    }
    let image = super::dockerfile::stage("ping-service");
    let port = port_of(image.only("ENV").strip_prefix("ADDRESS=").expect("its address"));
    for probe in ["readinessProbe", "livenessProbe"] {
        assert_eq!(objects.container_port(&container[probe]["httpGet"]["port"]), port, "{probe}");
    }
    let service = &objects.service("ping-service")["spec"];
    assert_eq!(service["selector"], objects.only("Deployment")["spec"]["template"]["metadata"]["labels"]);
    assert_eq!(objects.container_port(&service["ports"][0]["targetPort"]), port);
}
