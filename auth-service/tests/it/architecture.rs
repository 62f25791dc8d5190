//! Holds the imports of both crates to the tables of `docs/architecture.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

/// A module by its path below `src`, such as `http/base/error`. A folder's `mod.rs` has the path of the folder.
type Module = String;

/// Comments, and visibilities such as `pub(in crate::http)`, which name a module and import nothing.
static NOT_CODE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"//[^\n]*|\bpub\(in [^)]*\)").unwrap());
static USE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\buse\s+(\w+::[^;]+);").unwrap());
static PATH: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b((?:crate|super|auth_service)(?:::\w+)+)").unwrap());

/// The source of a crate: which module imports which.
struct Sources {
    code: BTreeMap<Module, String>,
    /// The modules that are the `mod.rs` of a folder.
    faces: BTreeSet<Module>,
}

impl Sources {
    /// Reads the modules below `src`, without comments and unit tests.
    fn read(src: &Path) -> Self {
        let (mut code, mut faces) = (BTreeMap::new(), BTreeSet::new());
        let mut folders = vec![src.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let below = path.strip_prefix(src).unwrap().with_extension("");
                let module = match below.file_name().unwrap().to_str().unwrap() {
                    "lib" | "main" | "tests" => continue,
                    "mod" => below.parent().unwrap().to_owned(),
                    _ => below,
                };
                let module = module.to_str().unwrap().to_owned();
                if path.ends_with("mod.rs") {
                    faces.insert(module.clone());
                }
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
                code.insert(module, NOT_CODE.replace_all(text, "").into_owned());
            }
        }
        Self { code, faces }
    }

    /// The modules that `module` names, without itself: by `crate::`, `super::`, `self::`, the name of the library (which is the crate of
    /// the program), or the name of a file in its own folder.
    fn imports(&self, module: &str) -> BTreeSet<Module> {
        let code = &self.code[module];
        let rest = USE.replace_all(code, "");
        let in_statements = USE.captures_iter(code).flat_map(|found| expand(&found[1]));
        let in_code = PATH.captures_iter(&rest).map(|found| found[1].to_owned());
        in_statements
            .chain(in_code)
            .filter_map(|path| self.resolve(module, &path))
            .filter(|target| target != module)
            .collect()
    }

    /// The longest beginning of an import path that is a module.
    fn resolve(&self, from: &str, path: &str) -> Option<Module> {
        // `super` in a folder's mod.rs and in a file both step out of the module.
        let mut at: Vec<&str> = from.split('/').collect();
        let mut names = path.split("::").peekable();
        let first = names.peek().copied().unwrap_or_default();
        if names.next_if(|name| matches!(*name, "crate" | "auth_service")).is_some() {
            at.clear();
        } else if !matches!(first, "self" | "super") && !self.code.contains_key(&format!("{from}/{first}")) {
            // Another crate.
            return None;
        }
        while let Some(step) = names.next_if(|name| matches!(*name, "self" | "super")) {
            if step == "super" {
                at.pop();
            }
        }
        at.extend(names);
        (1..=at.len())
            .rev()
            .map(|length| at[..length].join("/"))
            .find(|module| self.code.contains_key(module))
    }

    /// The imports that are part of a circle. A folder's `mod.rs` may use the files of the folder and be used by them: it is their face, and
    /// hands names on.
    fn circles(&self) -> Vec<(Module, Module)> {
        let is_face =
            |target: &str, from: &str| self.faces.contains(target) && Path::new(from).starts_with(target);
        let graph: BTreeMap<&str, BTreeSet<Module>> = self
            .code
            .keys()
            .map(|from| {
                let imports = self.imports(from).into_iter().filter(|target| !is_face(target, from));
                (from.as_str(), imports.collect())
            })
            .collect();
        let reaches = |from: &str, to: &str| {
            let (mut seen, mut left) = (BTreeSet::new(), vec![from]);
            while let Some(module) = left.pop() {
                for next in &graph[module] {
                    if next == to {
                        return true;
                    }
                    if seen.insert(next.as_str()) {
                        left.push(next);
                    }
                }
            }
            false
        };
        graph
            .iter()
            .flat_map(|(from, targets)| {
                targets.iter().map(move |target| ((*from).to_owned(), target.clone()))
            })
            .filter(|(from, target)| reaches(target, from))
            .collect()
    }
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn expand(tree: &str) -> Vec<String> {
    let Some((head, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return vec![path.split_whitespace().collect()];
    };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let (mut items, mut depth, mut item) = (Vec::new(), 0, String::new());
    for character in inner.chars().chain([',']) {
        match character {
            ',' if depth == 0 => items.push(std::mem::take(&mut item)),
            _ => {
                depth += i32::from(character == '{') - i32::from(character == '}');
                item.push(character);
            }
        }
    }
    let head: String = head.split_whitespace().collect();
    items
        .iter()
        .filter(|item| !item.trim().is_empty())
        .flat_map(|item| expand(item.trim()).into_iter().map(|path| format!("{head}{path}")))
        .collect()
}

/// The table below a heading: for each module the modules that it may use.
fn table(heading: &str) -> BTreeMap<Module, BTreeSet<Module>> {
    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let (_, section) = page.split_once(heading).unwrap_or_else(|| panic!("`{heading}` is missing"));
    let names = |cell: &str| -> Vec<String> {
        cell.split('`').skip(1).step_by(2).map(|name| name.trim_end_matches('/').to_owned()).collect()
    };
    let rows =
        section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let mut table = BTreeMap::new();
    for row in rows.skip(2) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let allowed: BTreeSet<Module> = names(cells[cells.len() - 1]).into_iter().collect();
        for module in names(cells[0]) {
            assert!(table.insert(module.clone(), allowed.clone()).is_none(), "`{module}` has two rows");
        }
    }
    assert!(table.len() > 10, "the table is shorter than it was: {table:?}");
    table
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The row that a module belongs to: the most specific one.
fn row_of<'t>(table: &'t BTreeMap<Module, BTreeSet<Module>>, module: &str) -> Option<&'t Module> {
    table.keys().filter(|row| Path::new(module).starts_with(row)).max_by_key(|row| row.len())
}

/// Every import that the table does not allow.
fn forbidden(sources: &Sources, table: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<String> {
    let mut found = Vec::new();
    for from in sources.code.keys() {
        let Some(own) = row_of(table, from) else {
            found.push(format!("{from} has no row"));
            continue;
        };
        for target in sources.imports(from) {
            let row = row_of(table, &target);
            if row != Some(own) && !row.is_some_and(|row| table[own].contains(row)) {
                found.push(format!("{from} imports {target}"));
            }
        }
    }
    found
}

const CRATES: [(&str, &str); 2] =
    [("auth-service/src", "Inside `auth-service/src`"), ("verifier/src", "Inside `verifier/src`")];

#[test]
fn every_import_is_in_the_table() {
    for (src, heading) in CRATES {
        let (sources, table) = (Sources::read(&root().join(src)), table(heading));
        assert_eq!(forbidden(&sources, &table), [""; 0], "{src}: docs/architecture.md does not allow these");
        for (module, allowed) in &table {
            let exists = |name: &Module| sources.code.keys().any(|known| Path::new(known).starts_with(name));
            assert!(
                exists(module),
                "{src}: docs/architecture.md has a row for `{module}`, which does not exist"
            );
            assert!(allowed.iter().all(|name| table.contains_key(name)), "{module} may use what has no row");
        }
    }
}

#[test]
fn no_two_files_import_each_other() {
    for (src, _) in CRATES {
        assert_eq!(Sources::read(&root().join(src)).circles(), [], "{src}");
    }
}

#[test]
fn the_rules_know_no_framework_and_the_core_of_the_verifier_no_system() {
    for (src, room, words) in [
        ("auth-service/src", "domain", r"\b(axum|sqlx|tokio|hyper)\b"),
        ("verifier/src", "core", r"\btokio\b|\bstd::\{?[^;]*\b(net|fs|thread)\b|\bSystemTime\b|\bInstant\b"),
    ] {
        let words = Regex::new(words).unwrap();
        for (module, code) in Sources::read(&root().join(src)).code {
            if Path::new(&module).starts_with(room) {
                assert_eq!(words.find(&code).map(|found| found.as_str()), None, "{src}/{module}");
            }
        }
    }
}

#[test]
fn a_forbidden_import_and_a_circle_are_found() {
    let code = [
        ("domain/key", "use crate::entropy::Entropy;"),
        ("domain/session", "use super::key::{Kid, Chain};"),
        ("store", "pub use keys::KeyRow; use std::fmt;"),
        ("store/keys", "use super::StoreError; use crate::domain::{key::Kid, session as s};"),
        ("entropy", "fn f() { crate::store::keys::read() }"),
        ("cli", "use auth_service::{domain::key::Kid, store};"),
    ];
    let sources = Sources {
        code: code.map(|(module, code)| (module.to_owned(), code.to_owned())).into(),
        faces: ["store".to_owned()].into(),
    };
    let row = |allowed: &[&str]| allowed.iter().map(|&name| name.to_owned()).collect();
    let table = [
        ("domain", row(&["entropy"])),
        ("store", row(&["domain"])),
        ("entropy", row(&[])),
        ("cli", row(&["store"])),
    ];
    let table = table.map(|(module, allowed)| (module.to_owned(), allowed)).into();
    assert_eq!(forbidden(&sources, &table), ["cli imports domain/key", "entropy imports store/keys"]);
    let circle: BTreeSet<Module> = sources.circles().into_iter().flat_map(|(from, to)| [from, to]).collect();
    assert_eq!(
        circle.into_iter().collect::<Vec<_>>(),
        ["domain/key", "domain/session", "entropy", "store/keys"]
    );
}
