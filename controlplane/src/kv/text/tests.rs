use super::*;

/// The text in one piece, and by tokens of any length in blocks of any length.
fn check(pieces: &[&[u8]], tokens: &[u32], block: usize) {
    let vocabulary = Vocabulary::of_pieces(pieces);
    let text: Vec<u8> = tokens.iter().flat_map(|token| pieces[*token as usize].to_vec()).collect();
    let mut expected = Vec::new();
    chain(3, &text, &mut expected);
    let (mut grown, mut all, mut rest, mut previous) = (Grown::default(), Vec::new(), Vec::new(), 3);
    for tokens in tokens.chunks(block) {
        assert!(grown.grow(&Tail { previous, blocks: all.len(), rest: &rest }, tokens, &vocabulary));
        all.extend_from_slice(grown.completed());
        previous = all.last().copied().unwrap_or(3);
        rest = grown.rest().to_vec();
        assert!(rest.len() < BLOCK_BYTES);
    }
    assert_eq!((all.len(), all), (text.len() / BLOCK_BYTES, expected));
    assert_eq!(rest, text[text.len() / BLOCK_BYTES * BLOCK_BYTES..]);
}

#[test]
fn blocks_of_tokens_add_up_to_the_text_however_they_are_cut() {
    let long = [b'w'; 300];
    let pieces: [&[u8]; 4] = [b"x", b" yes", &long, "漢".as_bytes()];
    let tokens: Vec<u32> = (0..200_u32).map(|n| (n * n / 3 + n) % 4).collect();
    for block in [1, 2, 7, 16, 64, 200] {
        check(&pieces, &tokens, block);
    }
    check(&pieces[..1], &[0; 128], 64);
}

#[test]
fn a_text_ends_where_data_planes_stop_looking() {
    let (vocabulary, mut grown) = (Vocabulary::of_pieces(&[&[b'a'; 64]]), Grown::default());
    let mut grow = |blocks, tokens| grown.grow(&Tail { previous: 1, blocks, rest: &[] }, &vec![0; tokens], &vocabulary);
    assert!(grow(65_534, 1) && !grow(65_535, 1));
    assert!(grow(0, 255) && !grow(0, 256), "nor is a block of tokens longer than any is");
}
