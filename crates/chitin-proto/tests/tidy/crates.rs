//! Who may depend on whom. Dependencies point inward, and what is pure stays so.

use std::collections::BTreeMap;

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

use super::{File, none, root};

/// Each crate of ours, and which of ours it may use.
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("chitin-core", &[]),
    ("chitin-proto", &[]),
    ("chitin-failpoints", &[]),
    ("chitin-store", &["chitin-core", "chitin-failpoints"]),
    ("chitin-cache", &["chitin-core", "chitin-failpoints"]),
    ("chitin-shim", &["chitin-failpoints", "chitin-proto"]),
    (
        "chitin-gateway",
        &["chitin-cache", "chitin-core", "chitin-failpoints", "chitin-proto", "chitin-shim", "chitin-store"],
    ),
    ("chitin", &["chitin-gateway", "chitin-proto", "chitin-shim"]),
    ("chitin-chaos", &["chitin-store"]),
    ("chitin-sim", &["chitin-core", "chitin-proto", "chitin-shim", "chitin-store"]),
];

/// All that the core may use of others: nothing that reads, writes, waits or knows the time.
const CORE_MAY_USE: &[&str] = &["thiserror"];

fn packages() -> Vec<Package> {
    MetadataCommand::new().current_dir(root()).no_deps().exec().expect("cargo metadata").packages
}

/// Its dependencies, those of its tests left out.
fn uses(package: &Package) -> Vec<&str> {
    let kept =
        package.dependencies.iter().filter(|dependency| dependency.kind != DependencyKind::Development);
    kept.map(|dependency| dependency.name.as_str()).collect()
}

#[test]
fn dependencies_point_inward() {
    let allowed: BTreeMap<_, _> = DIRECTIONS.iter().copied().collect();
    let mut complaints = Vec::new();
    for package in packages() {
        let Some(may) = allowed.get(package.name.as_str()) else {
            complaints.push(format!("{} has no place among the crates: give it one here", package.name));
            continue;
        };
        for used in uses(&package).into_iter().filter(|used| allowed.contains_key(used)) {
            if !may.contains(&used) {
                complaints
                    .push(format!("{} must not depend on {used}: dependencies point inward", package.name));
            }
        }
    }
    none(complaints);
}

#[test]
fn the_core_is_pure() {
    let packages = packages();
    let core = packages.iter().find(|package| package.name.as_str() == "chitin-core").expect("chitin-core");
    let foreign = uses(core).into_iter().filter(|used| !CORE_MAY_USE.contains(used));
    none(foreign.map(|used| format!("chitin-core must not depend on {used}: it stays pure")).collect());
}

#[test]
fn only_the_store_knows_sql() {
    let mut complaints = Vec::new();
    for package in packages().iter().filter(|package| package.name.as_str() != "chitin-store") {
        let sqlite = |name: &str| matches!(name, "rusqlite" | "libsqlite3-sys");
        if package.dependencies.iter().any(|dependency| sqlite(&dependency.name)) {
            complaints.push(format!("{} must not use SQLite: ask chitin-store", package.name));
        }
    }
    none(complaints);
}

#[test]
fn a_shim_is_single_threaded_and_small() {
    let packages = packages();
    let shim = packages.iter().find(|package| package.name.as_str() == "chitin-shim").expect("chitin-shim");
    let heavy = uses(shim).into_iter().filter(|used| matches!(*used, "tokio" | "hyper" | "axum" | "tracing"));
    none(
        heavy
            .map(|used| format!("chitin-shim must not depend on {used}: one thread, one megabyte"))
            .collect(),
    );
}

/// A build has failpoints if it asks for them in so many words, and the product does not.
#[test]
fn failpoints_are_nobodys_default() {
    let mut complaints = Vec::new();
    for package in packages() {
        if package.features.get("default").is_some_and(|on| !on.is_empty()) {
            complaints
                .push(format!("{} has default features; what they bring is in the product", package.name));
        }
        let asks = |features: &[String]| features.iter().any(|feature| feature.contains("failpoints"));
        for dependency in package.dependencies.iter().filter(|dependency| asks(&dependency.features)) {
            complaints.push(format!("{} turns failpoints on in {}", package.name, dependency.name));
        }
    }
    none(complaints);
}

#[test]
fn every_crate_is_under_the_workspace_lints() {
    let mut complaints = Vec::new();
    for package in packages() {
        let manifest = File::read(&format!("crates/{}/Cargo.toml", package.name));
        if !manifest.text.contains("[lints]\nworkspace = true\n") {
            complaints.push(format!("{}: add `[lints]` with `workspace = true`", manifest.path));
        }
    }
    none(complaints);
}
