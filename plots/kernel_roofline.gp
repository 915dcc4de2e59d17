# Kernels under the roofs; DATA: x, y, size, number in the key or 0, colour. BYTES in GB/s and FLOPS in GFLOP/s: the roofs.
set logscale xy
set xlabel 'Work per byte (FLOP/byte)' textcolor rgb INK
set ylabel 'GFLOP/s' textcolor rgb INK
set xrange [XLOW:XHIGH]
set yrange [YLOW:YHIGH]
set grid xtics ytics
roof(x) = BYTES * x < FLOPS ? BYTES * x : FLOPS
set samples 400
plot roof(x) with lines linecolor rgb INK linewidth 1.6 notitle, \
     DATA using 1:2:($3*POINTS):5 with points pointtype 7 pointsize variable linecolor rgb variable notitle, \
     DATA using 1:2:($4 > 0 ? sprintf('%d', $4) : '') with labels left offset 0.7,0.4 textcolor rgb INK notitle
