//! What tells the agent of an arrival: notify, scripts for ppp, RADIUS and Dovecot.
