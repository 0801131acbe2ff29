//! What the board says of an endpoint is the word of who attends to it, and of nobody else.

use super::*;

const ONE: RankId = RankId(1);
const OTHER: RankId = RankId(2);

fn key() -> EndpointKey {
    EndpointKey { uid: "u".into(), port: 1, rank: 0 }
}

fn differs() -> Agreement {
    Agreement::Differs("otherwise".to_owned())
}

/// The endpoint's state and whether it writes chats otherwise, as others are told it.
#[track_caller]
fn check(board: &Board, state: &str, differs: bool) {
    let rows = board.rows();
    assert_eq!(rows.iter().map(|row| row.state.word()).collect::<Vec<_>>(), [state]);
    assert_eq!(
        (rows[0].chats.word(), board.own_differing().borrow().len()),
        if differs { ("differs", 1) } else { ("unasked", 0) }
    );
}

#[test]
fn who_attends_to_an_endpoint_says_how_it_fares() {
    let board = Arc::new(Board::default());
    let line = board.begin(&key(), Some("m"), ONE);
    check(&board, "begun", false);
    line.set(State::Heard, Agreement::Same, Vec::new());
    assert_eq!(board.rows()[0].chats.word(), "same");
    line.agree(differs());
    check(&board, "heard", true);
    // One word of both: nobody sees a state and what is said of its chats that do not belong together.
    line.set(State::Begun, Agreement::Unasked, Vec::new());
    check(&board, "begun", false);
    line.set(State::Differs(String::new()), differs(), Vec::new());
    check(&board, "differs", true);
    assert_eq!(board.rows()[0].model, "m");
}

#[test]
fn of_one_that_is_anothers_to_hear_who_attended_to_it_says_nothing_more() {
    let board = Arc::new(Board::default());
    let line = board.begin(&key(), Some("m"), ONE);
    board.elsewhere(&key(), Some("m"));
    line.set(State::Heard, Agreement::Unasked, Vec::new());
    line.agree(differs());
    check(&board, "elsewhere", false);
}

#[test]
fn of_one_that_another_attends_to_now_the_earlier_one_says_nothing_more() {
    let board = Arc::new(Board::default());
    let earlier = board.begin(&key(), Some("m"), ONE);
    let line = board.begin(&key(), Some("m"), OTHER);
    earlier.set(State::Heard, Agreement::Unasked, Vec::new());
    earlier.agree(differs());
    check(&board, "begun", false);
    line.set(State::Heard, Agreement::Unasked, Vec::new());
    check(&board, "heard", false);
}

#[test]
fn one_that_is_gone_does_not_come_back() {
    let board = Arc::new(Board::default());
    let line = board.begin(&key(), Some("m"), ONE);
    board.keep(|_| false);
    line.set(State::Heard, Agreement::Unasked, Vec::new());
    line.agree(differs());
    assert!(board.rows().is_empty() && board.own_differing().borrow().is_empty());
}
