//! The arrival message, lease answers, framing and a blocking client with one total deadline.
