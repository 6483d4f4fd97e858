//! The program as an operator runs it: real processes, their arguments, variables and words.

mod agent_programs;
mod dev;
mod guide;
mod healthcheck;
mod keys;
mod migrations;
mod settings;
mod startup;
mod workspaces;

use crate::support::{database::Database, program::Program};

/// A command that works on this database.
fn on(database: &Database, arguments: &[&str]) -> Program {
    Program::new(arguments).variable("DATABASE_URL", &database.url())
}

/// `planasonix serve` on a port that the system chooses.
fn serve(database: &Database, arguments: &[&str]) -> Program {
    let arguments = [&["serve", "--listen", "127.0.0.1:0"], arguments].concat();
    on(database, &arguments)
}
