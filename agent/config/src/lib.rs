//! mailready.toml: types, defaults, errors with line and nearest key.
