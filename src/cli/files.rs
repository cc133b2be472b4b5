//! Where the configuration file is.

use std::path::{Path, PathBuf};

const NAME: &str = "tollgate.yaml";

/// The file that was named, else the first that exists: here, `$XDG_CONFIG_HOME/tollgate/`, `~/.config/tollgate/`, `/etc/tollgate/`.
pub fn find(named: Option<&Path>) -> Option<PathBuf> {
    if let Some(named) = named {
        return Some(named.to_owned());
    }
    let folder = |variable: &str| std::env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from);
    let config = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")));
    [
        Some(PathBuf::from(NAME)),
        config.map(|c| c.join("tollgate").join(NAME)),
        Some(Path::new("/etc/tollgate").join(NAME)),
    ]
    .into_iter()
    .flatten()
    .find(|path| path.is_file())
}
