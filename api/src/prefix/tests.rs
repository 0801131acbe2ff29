use proptest::prelude::*;

use super::*;

const SALT: Salt<'static> = Salt { fleet_seed: 7, model: "m", adapter: "", cache_salt: "" };

fn blocks(seed: u64, text: &[u8]) -> Vec<u64> {
    let mut out = Vec::new();
    chain(seed, text, &mut out);
    out
}

fn letters() -> Vec<u8> {
    [vec![b'A'; 64], vec![b'B'; 64], vec![b'C'; 10]].concat()
}

/// Computed with the C library (python-xxhash).
#[test]
fn vectors() {
    let start = seed(&SALT);
    assert_eq!(start, 0x7c66_2d46_0d11_726a, "{start:#x}");
    assert_eq!(blocks(start, &letters()), [0xfaab_503a_c52e_77ec, 0x6a59_d3cf_b7fa_332e]);

    let start = seed(&Salt { fleet_seed: 0, model: "deepseek-simple", adapter: "lora", cache_salt: "salt" });
    assert_eq!(start, 0xba1b_2690_cabd_cd51, "{start:#x}");
    let text = format!("<|im_start|>user\n{}", "x".repeat(47));
    assert_eq!(blocks(start, text.as_bytes()), [0x90d7_281c_22b2_79ec]);
}

#[test]
fn a_block_is_hashed_by_xxh3_seeded_with_the_one_before() {
    let start = seed(&SALT);
    let first = xxh3_64_with_seed(&letters()[..64], start);
    let second = xxh3_64_with_seed(&letters()[64..128], first);
    assert_eq!(blocks(start, &letters()), [first, second]);
}

#[test]
fn every_part_of_the_salt_counts() {
    let variants = [
        SALT,
        Salt { fleet_seed: 8, ..SALT },
        Salt { model: "n", ..SALT },
        Salt { adapter: "m", ..SALT },
        Salt { cache_salt: "m", ..SALT },
        Salt { model: "", adapter: "m", ..SALT },
        Salt { model: "m1", adapter: "2", ..SALT },
        Salt { model: "m", adapter: "12", ..SALT },
    ];
    let mut seeds: Vec<u64> = variants.iter().map(seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), variants.len());
}

#[test]
fn an_unfinished_block_has_no_hash() {
    let mut hasher = Hasher::new(1);
    let mut out = Vec::new();
    hasher.push(&[0; 63], &mut out);
    assert_eq!((out.len(), hasher.pending()), (0, 63));
    hasher.push(&[0; 1], &mut out);
    assert_eq!((out.len(), hasher.pending()), (1, 0));
}

#[test]
fn the_chain_ends_at_its_bound() {
    let text = vec![b'x'; (MAX_BLOCKS + 3) * BLOCK_BYTES];
    assert_eq!(blocks(1, &text).len(), MAX_BLOCKS);
    let mut hasher = Hasher::new(1);
    let mut out = Vec::new();
    for piece in text.chunks(1000) {
        hasher.push(piece, &mut out);
    }
    assert_eq!(out, blocks(1, &text));
}

proptest! {
    #[test]
    fn cuts_make_no_difference(text in prop::collection::vec(any::<u8>(), 0..600), cuts in prop::collection::vec(0usize..600, 0..12)) {
        let mut hasher = Hasher::new(9);
        let mut out = Vec::new();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        for pair in cuts.windows(2) {
            hasher.push(&text[pair[0]..pair[1]], &mut out);
        }
        prop_assert_eq!(out, blocks(9, &text));
    }
}
