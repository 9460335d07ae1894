// A megabyte of code with a function at each end, the first of which calls the last: lies on huge pages.
  .text
  .globl first
  .hidden first
first:
  call last
  add $1, %eax
  ret
  .fill 1048576, 1, 0x90
  .globl last
  .hidden last
last:
  mov $41, %eax
  ret
  .section .note.GNU-stack,"",@progbits
