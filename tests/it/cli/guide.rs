//! The operator's guide says of settings and metrics what the program says of itself. `UPDATE_GUIDE=1` writes it.

use std::fs;

use clap::{Arg, CommandFactory};
use planasonix::{
    config::Cli,
    meter::{Kind, METRICS},
};

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operating.md");

/// Holds what stands between the marks of `name` against `wanted`.
fn assert_says(name: &str, wanted: &str) {
    let guide = fs::read_to_string(GUIDE).unwrap();
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = guide.split_once(&begin).unwrap();
    let (said, after) = rest.split_once(&end).unwrap();
    if std::env::var_os("UPDATE_GUIDE").is_some() {
        fs::write(GUIDE, [before, &begin, wanted, &end, after].concat()).unwrap();
    } else {
        assert_eq!(said, wanted, "UPDATE_GUIDE=1 writes it");
    }
}

fn row(setting: &Arg) -> String {
    let flag = setting.get_long().unwrap();
    let value = setting.get_value_names().filter(|_| setting.get_action().takes_values());
    let value = value.map_or(String::new(), |names| format!(" {}", names[0]));
    let variable = setting.get_env().unwrap().to_str().unwrap();
    let defaults = setting.get_default_values().iter().filter(|_| !value.is_empty());
    let defaults: Vec<_> = defaults.map(|value| format!("`{}`", value.to_str().unwrap())).collect();
    let help = setting.get_help().unwrap().to_string().replace('|', "\\|");
    let end = if help.ends_with('.') { "" } else { "." };
    format!("| `--{flag}{value}` | `{variable}` | {} | {help}{end} |\n", defaults.join(", "))
}

#[test]
fn it_lists_every_setting_as_help_does() {
    let mut program = Cli::command();
    program.build();
    let serve = program.find_subcommand("serve").unwrap();
    let settings = serve.get_arguments().filter(|setting| setting.get_env().is_some());
    let rows: String = settings.map(row).collect::<Vec<_>>().concat();
    assert_says(
        "settings",
        &format!("\n| flag | variable | default | what it says |\n|---|---|---|---|\n{rows}\n"),
    );
}

#[test]
fn it_names_every_metric() {
    let row = |&(name, kind, help): &(&str, Kind, &str)| {
        format!("| `{name}` | {} | {help} |\n", format!("{kind:?}").to_lowercase())
    };
    let rows: String = METRICS.iter().map(row).collect::<Vec<_>>().concat();
    assert_says("metrics", &format!("\n| metric | kind | what it tells |\n|---|---|---|\n{rows}\n"));
}

#[test]
fn every_metric_that_an_alert_names_is_there() {
    let guide = fs::read_to_string(GUIDE).unwrap();
    let name = regex::Regex::new(r"`(planasonix_[a-z_]+)").unwrap();
    for found in name.captures_iter(&guide) {
        assert!(METRICS.iter().any(|(name, ..)| *name == &found[1]), "{}", &found[1]);
    }
}
