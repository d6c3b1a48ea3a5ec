import JobletModel
import Testing

@Suite struct TimestampTests {
  @Test(arguments: [
    (0, "1970-01-01T00:00:00.000000000Z"),
    (-1, "1969-12-31T23:59:59.999999999Z"),
    (1_795_292_155_123_456_789, "2026-11-21T20:15:55.123456789Z"),
    (951_782_400_000_000_000, "2000-02-29T00:00:00.000000000Z"),
    (4_107_542_399_000_000_001, "2100-02-28T23:59:59.000000001Z"),
    (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
    (.min, "1677-09-21T00:12:43.145224192Z"),
    (.max, "2262-04-11T23:47:16.854775807Z"),
  ])
  func printsAndReadsBack(nanoseconds: Int64, text: String) {
    #expect(Timestamp(nanoseconds: nanoseconds).description == text)
    #expect(Timestamp(rfc3339: text) == Timestamp(nanoseconds: nanoseconds))
  }

  @Test(arguments: [
    ("2026-11-21T21:15:55+01:00", "2026-11-21T20:15:55.000000000Z"),
    ("2026-11-21t20:15:55.5z", "2026-11-21T20:15:55.500000000Z"),
    ("2026-11-21 20:15:55.1234567899Z", "2026-11-21T20:15:55.123456789Z"),
  ])
  func readsOtherForms(text: String, canonical: String) {
    #expect(Timestamp(rfc3339: text)?.description == canonical)
  }

  @Test(arguments: [
    "", "2026", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-11-21T24:00:00Z", "2026-11-21T20:15:55",
    "2026-11-21T20:15:55.Z", "2026-11-21T20:15:55Zx", "9999-12-31T00:00:00Z",
  ])
  func refuses(text: String) {
    #expect(Timestamp(rfc3339: text) == nil)
  }

  @Test func everyDayOfFourCenturiesRoundTrips() {
    for day in stride(from: Int64(-80_000), to: 80_000, by: 1) {
      let time = Timestamp(nanoseconds: day * 86_400_000_000_000 + 1)
      #expect(Timestamp(rfc3339: time.description) == time)
    }
  }
}

@Suite struct UnitsTests {
  @Test(arguments: [
    ("100ms", 100), ("30s", 30_000), ("5m", 300_000), ("24h", 86_400_000), ("7d", 604_800_000), ("0", 0),
  ])
  func durations(text: String, milliseconds: Int64) {
    #expect(DurationText.parse(text)?.milliseconds == milliseconds)
  }

  @Test(arguments: ["", "s", "30", "-1s", "1.5s", "30 s", "99999999999999999999s", "9223372036854775807d", "٣s"])
  func wrongDurations(text: String) {
    #expect(DurationText.parse(text) == nil)
  }

  @Test(arguments: [("0", 0), ("512KiB", 524_288), ("1MB", 1_000_000), ("10GB", 10_000_000_000), ("1TiB", 1 << 40)])
  func sizes(text: String, bytes: Int64) {
    #expect(ByteSizeText.parse(text) == bytes)
  }

  @Test(arguments: ["", "MB", "1mb", "1 MB", "-1", "9223372036854775807KB"])
  func wrongSizes(text: String) {
    #expect(ByteSizeText.parse(text) == nil)
  }
}

@Suite struct JobIDTests {
  @Test func carriesTimeNodeAndVersion() throws {
    let time = Timestamp(nanoseconds: 1_795_292_155_123_456_789)
    let id = JobID(now: time, node: 0xDEAD_BEEF, random: .max)
    #expect(id.description.count == 36)
    #expect(JobID(id.description) == id)
    #expect(JobID(id.description.uppercased()) == id)
    #expect(id.node == 0xDEAD_BEEF)
    #expect(id.high >> 16 == 1_795_292_155_123)
    #expect(id.high >> 12 & 0xF == 7)
    #expect(id.low >> 62 == 0b10)
    let later = JobID(now: Timestamp(nanoseconds: time.nanoseconds + 1_000_000), node: 0, random: 0)
    #expect(id < later)
    #expect(id.description < later.description)
  }

  @Test(arguments: [
    "", "x", "0f0c1b1e-77aa-4f1e-9c52-10000000000", "0f0c1b1e-77aa-4f1e-9c52-1000000000000",
    "0f0c1b1e77aa-4f1e-9c52-1000000000000", "0f0c1b1g-77aa-4f1e-9c52-100000000000",
    "../../../../../../../../../../etc/x",
  ])
  func refuses(text: String) {
    #expect(JobID(text) == nil)
  }
}

@Suite struct TimeTextTests {
  static let now = Timestamp(nanoseconds: 1_795_309_200_123_456_789)

  @Test(
    arguments: [
      ("now", 1_795_309_200_123_456_789), ("1970-01-01T00:00:01Z", 1_000_000_000),
      ("2026-11-22T02:00:00.5+01:00", 1_795_309_200_500_000_000), ("0", 0), ("1795309200", 1_795_309_200_000_000_000),
      ("1795309200.25", 1_795_309_200_250_000_000), ("1.0000000019", 1_000_000_001),
      ("9223372036", 9_223_372_036_000_000_000),
      ("1h", 1_795_309_200_123_456_789 - 3_600_000_000_000), ("10m", 1_795_309_200_123_456_789 - 600_000_000_000),
      ("7d", 1_795_309_200_123_456_789 - 604_800_000_000_000), ("250ms", 1_795_309_200_123_456_789 - 250_000_000),
    ] as [(String, Int64)])
  func reads(text: String, nanoseconds: Int64) {
    #expect(TimeText.parse(text, now: Self.now) == Timestamp(nanoseconds: nanoseconds))
  }

  @Test(arguments: [
    "", "Now", "-1", "+1", "1.", ".5", "1.5.5", "1e9", " 1", "1 h", "1h30m", "-1h", "yesterday", "2026-11-22",
    "9223372037",
    "99999999999999999999", "1.5h", "١", "2026-02-30T00:00:00Z", String(repeating: "1", count: 200),
  ])
  func refuses(text: String) {
    #expect(TimeText.parse(text, now: Self.now) == nil)
  }

  @Test func nonsenseNeverTraps() {
    let letters = Array("0123456789.-+:TZhmsdnow ")
    var state: UInt64 = 9
    for _ in 0..<50_000 {
      var text = ""
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      for _ in 0..<Int(state >> 59) {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        text.append(letters[Int((state >> 33) % UInt64(letters.count))])
      }
      _ = TimeText.parse(text, now: Self.now)
    }
  }
}
