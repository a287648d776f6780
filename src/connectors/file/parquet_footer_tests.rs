use super::*;
use proptest::prelude::*;

/// A schema of `depth` nested groups in the compact protocol.
pub fn deep_footer(depth: u8) -> Vec<u8> {
    let mut bytes = vec![0x15, 0x02, 0x19, 0xFC];
    bytes.push(depth);
    for _ in 0..depth {
        // Field 4 (name) "g", field 5 (num_children) 1, end.
        bytes.extend([0x48, 0x01, b'g', 0x15, 0x02, 0x00]);
    }
    bytes.push(0x00);
    bytes
}

fn fault(bytes: &[u8]) -> Option<Fault> {
    check_footer(&Bytes::copy_from_slice(bytes)).err()
}

#[test]
fn depth_is_bounded() {
    assert_eq!(fault(&deep_footer(60)), None);
    assert!(matches!(fault(&deep_footer(100)), Some(Fault::Limit(why)) if why.contains("deeper")));
}

#[test]
fn announced_sizes_are_checked_against_the_bytes() {
    // A list that announces 2^31 structures and has no bytes for them.
    let list = [0x15, 0x02, 0x19, 0xFC, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0x00];
    assert!(matches!(fault(&list), Some(Fault::Damaged(why)) if why.contains("announces")));
    assert!(matches!(fault(&[0x15]), Some(Fault::Damaged(why)) if why.contains("truncated")));
}

#[test]
fn only_the_first_row_groups_are_decoded() {
    for (groups, keep) in [(3u8, 3usize), (64, 64), (65, 64), (100, 64)] {
        // FileMetaData: version 1, the row groups as structures with total size, number of rows and a field that is
        // left out, and `created_by`.
        let mut bytes = vec![0x15, 0x02];
        if groups < 15 {
            bytes.extend([0x39, groups << 4 | STRUCT])
        } else {
            bytes.extend([0x39, 0xFC, groups])
        }
        (0..groups).for_each(|index| bytes.extend([0x26, index, 0x16, 0x02, 0x25, 0x00, 0x00]));
        bytes.extend([0x28, 0x01, b'w', 0x00]);
        let footer = check_footer(&Bytes::from(bytes.clone())).unwrap();
        let shorter = 2 * keep + 7 * (usize::from(groups) - keep);
        assert_eq!((footer.row_groups, footer.bytes.len()), (usize::from(groups), bytes.len() - shorter));
        let again = check_footer(&footer.bytes).unwrap();
        assert_eq!((again.row_groups, again.bytes), (keep, footer.bytes));
    }
}

proptest! {
    #[test]
    fn any_bytes_end(bytes: Vec<u8>) {
        let _ = fault(&bytes);
    }

    #[test]
    fn a_cut_footer_is_refused(cut in 1usize..60) {
        let whole = deep_footer(10);
        prop_assert!(fault(&whole[..whole.len() - cut]).is_some());
    }
}
