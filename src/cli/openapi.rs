//! `planasonix openapi`

use super::{failure::Failure, output};
use crate::{config::OpenapiArgs, http};

/// Prints the OpenAPI document.
///
/// # Errors
/// Standard output is closed.
pub fn run(args: &OpenapiArgs) -> Result<(), Failure> {
    let document = http::document();
    let text = if args.yaml { document.yaml } else { document.json };
    Ok(output::line(text.trim_end())?)
}
