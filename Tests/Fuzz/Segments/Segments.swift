import LocalStore

// The write-ahead log: a segment of batches is written, damaged as the fuzzer says, and read back. What is read must be what
// was written, in its order, and nothing behind damage may pass for a batch that was not there.

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
  // The bytes as they are, first.
  walk(UnsafeRawBufferPointer(start: data, count: size)) { _, _ in }

  var choices = Choices(data, size)
  var segment = LogSegment.header(7, firstBatch: 1)
  var batches: [(number: UInt64, bytes: [UInt8], end: Int)] = []
  for number in 1...UInt64(1 + choices.below(8)) {
    let frames = (0..<(1 + choices.below(200))).map { _ in choices.byte() }
    var head = [UInt8](repeating: 0xEE, count: LogSegment.batchHeaderLength)
    frames.withUnsafeBytes { part in
      head.withUnsafeMutableBytes { LogSegment.writeBatchHeader(number, [part], into: $0) }
    }
    segment += head + frames
    batches.append((number, frames, segment.count))
  }
  segment += [UInt8](repeating: 0, count: choices.below(64))
  segment.withUnsafeBytes { require(LogSegment.isHeader($0, of: 7), "the segment's header is not one") }
  require(read(segment) == batches.count, "not every batch is read back")

  // Damage: bytes changed, the end cut off.
  var first = segment.count
  for _ in 0..<(1 + choices.below(3)) {
    let place = choices.below(segment.count)
    let mask = choices.byte()
    if mask != 0 { first = min(first, place) }
    segment[place] ^= mask
  }
  if choices.byte() & 1 == 1 {
    let length = choices.below(segment.count + 1)
    segment.removeLast(segment.count - length)
    first = min(first, length)
  }
  let whole = batches.count { $0.end <= first }
  var index = 0
  segment.withUnsafeBytes { bytes in
    walk(bytes) { number, frames in
      guard index < whole else { return }
      require(number == batches[index].number && frames.elementsEqual(batches[index].bytes), "batch \(index) changed")
      index += 1
    }
  }
  require(index >= whole, "\(index) of the \(whole) batches before the damage are read")
  return 0
}

private func read(_ segment: [UInt8]) -> Int {
  var count = 0
  segment.withUnsafeBytes { walk($0) { _, _ in count += 1 } }
  return count
}

private func walk(_ bytes: UnsafeRawBufferPointer, _ body: (UInt64, UnsafeRawBufferPointer) -> Void) {
  var offset = LogSegment.headerLength
  while case .batch(let number, let frames) = LogSegment.place(bytes, at: offset) {
    require(
      frames.lowerBound == offset + LogSegment.batchHeaderLength && frames.upperBound <= bytes.count && !frames.isEmpty,
      "a batch at \(offset) lies at \(frames) of \(bytes.count)")
    body(number, UnsafeRawBufferPointer(rebasing: bytes[frames]))
    offset = frames.upperBound
  }
}

func seeds() -> [[UInt8]] {
  let segment = LogSegment.header(7, firstBatch: 1) + [UInt8](repeating: 0, count: 64)
  return [segment, Array(0...255), [7] + [UInt8](repeating: 3, count: 100)]
}
