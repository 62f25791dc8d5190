//! Apache httpd, `HAProxy`, nginx and Caddy: how each is started with its files from `deploy/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Addresses;
use crate::process::installed;

/// A front end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Caddy.
    Caddy,
    /// `HAProxy`.
    Haproxy,
    /// Apache httpd.
    Httpd,
    /// nginx.
    Nginx,
}

/// The user of the balancer-manager.
pub const OPERATOR: (&str, &str) = ("operator", "plum-tractor-cobalt-49");
/// Its line in a password file: `htpasswd -n -b -s operator plum-tractor-cobalt-49`.
const PASSWORDS: &str = "operator:{SHA}gGWp4YgCJqwfTYLlFJScSFhTNuU=\n";

impl Program {
    /// Its name, as in `deploy/`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Caddy => "caddy",
            Self::Haproxy => "haproxy",
            Self::Httpd => "httpd",
            Self::Nginx => "nginx",
        }
    }

    /// The command that runs it in the foreground in `here`, with the files that it needs there.
    pub(super) fn command(self, here: &Path, at: Addresses, variables: &[(String, String)]) -> Command {
        match self {
            Self::Caddy => caddy(here),
            Self::Haproxy => haproxy(here),
            Self::Httpd => httpd(here, at),
            Self::Nginx => nginx(here, variables),
        }
    }
}

/// A file of `deploy/`.
pub fn deployed(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(file)
        .canonicalize()
        .expect("a file of deploy/")
}

/// Caddy reads variables itself; the guarded application is added to its file according to the comment there.
fn caddy(here: &Path) -> Command {
    let [front_end, guarded] = ["caddy/Caddyfile", "caddy/guarded.caddyfile"].map(deployed);
    let text = format!("import {}\nimport {}\n", front_end.display(), guarded.display());
    fs::write(here.join("Caddyfile"), text).expect("a file");
    let mut command = Command::new(installed("caddy", "caddy"));
    command.args(["run", "--adapter", "caddyfile", "--config", "Caddyfile"]);
    command.env("HOME", here).env("XDG_CONFIG_HOME", here).env("XDG_DATA_HOME", here);
    command
}

/// Without keys until `reload-keys` runs.
fn haproxy(here: &Path) -> Command {
    fs::write(here.join("keys.cfg"), "").expect("a file");
    let mut command = Command::new(installed("haproxy", "haproxy"));
    command.args(["-W", "-p", "haproxy.pid"]);
    for file in ["haproxy/haproxy.cfg", "haproxy/guarded.cfg"] {
        command.arg("-f").arg(deployed(file));
    }
    command.arg("-f").arg(here.join("keys.cfg"));
    command
}

/// The main file corresponds to Debian's, with the modules that the files of `deploy/` require. It adds TLS
/// for the key set, with a private certificate, because `mod_auth_openidc` fetches keys over https only.
fn httpd(here: &Path, at: Addresses) -> Command {
    fs::write(here.join("passwords"), PASSWORDS).expect("a file");
    make_certificate(here, at);
    let files = ["httpd/front-end.conf", "httpd/guarded.conf"].map(deployed);
    let base =
        ["mpm_event", "authz_core", "authn_core", "slotmem_shm", "socache_shmcb", "ssl"].map(str::to_owned);
    let modules = base.into_iter().chain(files.iter().flat_map(|file| asked_modules(file)));
    let load = |module| {
        format!(
            "<IfModule !{module}_module>\nInclude /etc/apache2/mods-available/{module}.load\n</IfModule>\n"
        )
    };
    let text = format!(
        "ServerRoot {here}\nDefaultRuntimeDir {here}\nPidFile {here}/httpd.pid\nServerName localhost\n\
         ErrorLog {here}/error.log\nMutex file:{here} default\n{modules}\
         Include {front_end}\nInclude {guarded}\n\
         OIDCCABundlePath {here}/certificate\nListen {tls}\n<VirtualHost {tls}>\nSSLEngine on\n\
         SSLCertificateFile {here}/certificate\nSSLCertificateKeyFile {here}/key\n\
         ProxyPass /.well-known/ balancer://auth/.well-known/\n</VirtualHost>\n",
        here = here.display(),
        modules = modules.map(load).collect::<String>(),
        front_end = files[0].display(),
        guarded = files[1].display(),
        tls = at.tls(),
    );
    fs::write(here.join("httpd.conf"), text).expect("a file");
    let mut command = Command::new(installed("apache2", "apache2 libapache2-mod-auth-openidc"));
    command.args(["-D", "FOREGROUND", "-f"]).arg(here.join("httpd.conf"));
    command.env("PASSWORDS", here.join("passwords"));
    command.env("JWKS", format!("https://{}/.well-known/jwks.json", at.tls()));
    command
}

fn make_certificate(here: &Path, at: Addresses) {
    let made = Command::new(installed("openssl", "openssl"))
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-addext", &format!("subjectAltName=IP:{}", at.tls().ip())])
        .args(["-keyout", "key", "-out", "certificate"])
        .current_dir(here)
        .output()
        .expect("it was just found");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// The names in the line `a2enmod …` of a file.
fn asked_modules(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).expect("a file of deploy/");
    let (_, rest) = text.split_once("a2enmod ").expect("a line that says which modules");
    rest.lines().next().unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// The templates are filled in as by `envsubst`; the main file corresponds to Debian's.
fn nginx(here: &Path, variables: &[(String, String)]) -> Command {
    for name in ["front-end", "guarded"] {
        let template = deployed(&format!("nginx/{name}.conf.template"));
        let template = fs::read_to_string(template).expect("a file of deploy/");
        let fill =
            |text: String, (name, value): &(String, String)| text.replace(&format!("${{{name}}}"), value);
        let text = variables.iter().fold(template, fill);
        fs::write(here.join(format!("{name}.conf")), text).expect("a file");
    }
    let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {}/{name};\n", here.display()))
        .concat();
    let text = format!(
        "worker_processes auto;\npid {here}/nginx.pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\naccess_log off;\n{folders}include {here}/front-end.conf;\ninclude {here}/guarded.conf;\n}}\n",
        here = here.display()
    );
    fs::write(here.join("nginx.conf"), text).expect("a file");
    let mut command = Command::new(installed("nginx", "nginx-light"));
    command.args(["-e", "stderr", "-g", "daemon off;", "-c"]).arg(here.join("nginx.conf"));
    command
}
