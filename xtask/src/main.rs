//! xtask: the project's own chores.

mod schema;

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["schema", openapi, out] => schema::generate(Path::new(openapi), Path::new(out)),
        _ => anyhow::bail!("usage: cargo xtask schema OPENAPI_JSON OUT"),
    }
}
