//! The D-Bus interface of the agent: types and proxy.
