//! `self.sock`: users speak for themselves only.

use std::time::Duration;

use mailready_protocol::{Answer, Reason, Source};

use crate::site::{ANN, Site, announce_at, arrival, as_uid, can_be_others};

#[test]
fn a_user_speaks_for_itself_and_nobody_else() {
    if !can_be_others() {
        return;
    }
    let site = Site::new();
    let say = |uid, user: &'static str| {
        let path = site.self_socket();
        as_uid(uid, move || announce_at(&path, &arrival(user, Duration::ZERO), None).unwrap()).join().unwrap()
    };
    assert_eq!(say(ANN, "ann"), Answer::Taken);
    assert_eq!(say(ANN, "ann@example.org"), Answer::Taken);
    assert_eq!(say(ANN, "bob"), Answer::Refused(Reason::NotAllowed));
    assert_eq!(say(ANN, "zed"), Answer::Refused(Reason::NotAllowed), "who exists is not told");
    assert_eq!(
        say(0, "ann"),
        Answer::Refused(Reason::NotAllowed),
        "not even root, which has a door of its own"
    );
    site.twin.wait_for_conversion("ann");
    assert_eq!(site.twin.conversions().len(), 1);
}

#[test]
fn the_trusted_door_is_closed_to_users() {
    if !can_be_others() {
        return;
    }
    let site = Site::new();
    let path = site.arrival_socket();
    let refused = as_uid(ANN, move || {
        let mut request = arrival("ann", Duration::ZERO);
        request.source = Source::Script;
        announce_at(&path, &request, None)
    });
    assert!(refused.join().unwrap().is_err());
}
