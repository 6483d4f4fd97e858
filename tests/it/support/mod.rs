//! What tests speak with: an app of their own, and the people who talk to it.

pub mod actors;
pub mod agent_program;
pub mod agents;
pub mod answer;
pub mod app;
pub mod ask;
pub mod bystander;
pub mod cut;
pub mod database;
pub mod document;
pub mod faults;
pub mod fleet;
pub mod haproxy;
pub mod http;
pub mod locks;
pub mod manage;
pub mod migrations;
pub mod plan;
pub mod planner;
pub mod postgres;
pub mod process;
pub mod program;
pub mod reads;
pub mod relay;
pub mod rows;
pub mod schema;
pub mod show;
pub mod storm;
pub mod time;
pub mod turn;
pub mod wire;

pub use answer::Answer;
pub use app::App;
