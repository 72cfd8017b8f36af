//! PAM module: tells the agent of a login and never stands in its way.
