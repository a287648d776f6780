//! MD5 (RFC 1321), the default of the CDK's filter `hash`. Not for security.

const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// The digest of `data`.
#[must_use]
pub(super) fn md5(data: &[u8]) -> [u8; 16] {
    let mut message = data.to_vec();
    message.push(0x80);
    while message.len() % 64 != 56 {
        message.push(0);
    }
    message.extend((data.len() as u64).wrapping_mul(8).to_le_bytes());
    let mut state = [0x6745_2301_u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for chunk in message.chunks_exact(64) {
        let words: Vec<u32> =
            chunk.chunks_exact(4).map(|word| word.iter().rev().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte))).collect();
        block(&mut state, &words);
    }
    let mut out = [0; 16];
    for (slot, byte) in out.iter_mut().zip(state.iter().flat_map(|word| word.to_le_bytes())) {
        *slot = byte;
    }
    out
}

fn block(state: &mut [u32; 4], words: &[u32]) {
    let [mut a, mut b, mut c, mut d] = *state;
    for step in 0..64usize {
        let (mix, index) = match step / 16 {
            0 => ((b & c) | (!b & d), step),
            1 => ((d & b) | (!d & c), 5 * step + 1),
            2 => (b ^ c ^ d, 3 * step + 5),
            _ => (c ^ (b | !d), 7 * step),
        };
        let constant = ((step as f64 + 1.0).sin().abs() * 4_294_967_296.0) as u32;
        let shift = SHIFTS.get(step / 16).and_then(|row| row.get(step % 4)).copied().unwrap_or(0);
        let word = words.get(index % 16).copied().unwrap_or(0);
        let turned = a.wrapping_add(mix).wrapping_add(constant).wrapping_add(word).rotate_left(shift);
        (a, d, c, b) = (d, c, b, b.wrapping_add(turned));
    }
    for (slot, value) in state.iter_mut().zip([a, b, c, d]) {
        *slot = slot.wrapping_add(value);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn digests_of_the_rfc() {
        let hex = |text: &str| super::md5(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(hex("message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
        assert_eq!(hex(&"1234567890".repeat(8)), "57edf4a22be3c955ac49da2e2107b67a");
    }
}
