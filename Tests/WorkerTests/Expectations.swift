import Testing

// Functions where #expect can't be: it can't take a call that changes a value.

func same<T: Equatable>(_ a: T, _ b: T, sourceLocation: SourceLocation = #_sourceLocation) {
  #expect(a == b, sourceLocation: sourceLocation)
}

func different<T: Equatable>(_ a: T, _ b: T, sourceLocation: SourceLocation = #_sourceLocation) {
  #expect(a != b, sourceLocation: sourceLocation)
}

func holds(_ condition: Bool, sourceLocation: SourceLocation = #_sourceLocation) {
  #expect(condition, sourceLocation: sourceLocation)
}
