// Numbers too small for a normal exponent count as 0 while a thread trains: momenta that fade away would otherwise
// slow every step down, on some CPUs a hundred times.
#pragma once

#if defined(__x86_64__)
INLINE unsigned flush_denormals() {
    const unsigned mode = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(mode | 0x8040);  // flush to zero, denormals are zero
    return mode;
}
INLINE void restore_denormals(unsigned mode) { __builtin_ia32_ldmxcsr(mode); }
#elif defined(__aarch64__)
INLINE unsigned flush_denormals() {
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode | (uint64_t(1) << 24)));
    return unsigned(mode);
}
INLINE void restore_denormals(unsigned mode) { __asm__ volatile("msr fpcr, %0" : : "r"(uint64_t(mode))); }
#else
INLINE unsigned flush_denormals() { return 0; }
INLINE void restore_denormals(unsigned) {}
#endif
