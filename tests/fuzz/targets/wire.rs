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
