//! The agent: arrivals, queue, gate, commit, drain.
