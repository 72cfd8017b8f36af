//! Packets: what is read of one is written as it was.

use mailready_protocol::{Answer, Request};
use mailready_worker::job::Job;
use mailready_worker::wire::{Order, Report};

pub fn arrival(data: &[u8]) {
    if let Ok(request) = Request::decode(data) {
        assert_eq!(request.encode(), data);
    }
    if let Ok(answer) = Answer::decode(data) {
        assert_eq!(Answer::decode(&answer.encode()).expect("ours"), answer);
    }
}

/// What comes from a network: an answer is a packet of its own, that repeats the identifier and nothing but Proxy-State.
pub fn radius(data: &[u8]) {
    let Some((_, answer)) = mailready_hooks::radius::fuzz_packet(data, b"testing123") else { return };
    assert!((20..=data.len()).contains(&answer.len()));
    assert_eq!(usize::from(u16::from_be_bytes([answer[2], answer[3]])), answer.len());
    assert_eq!((answer[0], answer[1]), (5, data[1]));
}

pub fn job(data: &[u8]) {
    let Ok(job) = Job::decode(data) else { return };
    assert_ne!(job.uid, 0, "a worker never stays root");
    assert_eq!(Job::decode(&job.encode()).expect("ours"), job);
}

pub fn order(data: &[u8]) {
    if let Ok(order) = Order::decode(data) {
        assert_eq!(Order::decode(&order.encode()).expect("ours"), order);
    }
    if let Ok(report) = Report::decode(data) {
        assert_eq!(Report::decode(&report.encode()).expect("ours"), report);
    }
}
