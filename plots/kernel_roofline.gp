# Kernels under the roofs. Blocks of DATA: f32 points (x, y, colour), bf16 points, roofs of arithmetic (from x, to x, y), their
# names (x, y, text), numbers of points (x, y, number), lines from a number to its point. BYTES in GB/s: the copy's roof, up to
# FLOPS in GFLOP/s. LEFT, RIGHT, LOW, HIGH: margins in pixels, which the places of the numbers rest on.
set logscale xy
set xlabel 'Work per byte (FLOP/byte)' textcolor rgb INK
set ylabel 'GFLOP/s' textcolor rgb INK
set xrange [XLOW:XHIGH]
set yrange [YLOW:YHIGH]
set lmargin at screen 1.0*LEFT / W
set rmargin at screen 1 - 1.0*RIGHT / W
set grid xtics ytics
roof(x) = BYTES * x < FLOPS ? BYTES * x : NaN
set samples 800
plot roof(x) with lines linecolor rgb INK linewidth 1.6 notitle, \
     DATA index 2 using 1:3:($2-$1):(0) with vectors nohead linecolor rgb INK linewidth 1.2 notitle, \
     DATA index 5 using 1:2:3:4 with vectors nohead linecolor rgb '#8a9096' linewidth 0.7 notitle, \
     DATA index 0 using 1:2:3 with points pointtype 7 pointsize 1.1*POINTS linecolor rgb variable notitle, \
     DATA index 1 using 1:2:3 with points pointtype 5 pointsize 1.0*POINTS linecolor rgb variable notitle, \
     DATA index 3 using 1:2:3 with labels left offset 0.5,0 textcolor rgb INK notitle, \
     DATA index 4 using 1:2:3 with labels center textcolor rgb INK notitle
