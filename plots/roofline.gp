# Work per second against work per byte; DATA: x, y, size, number in the key. BYTES in GB/s and FLOPS in GFLOP/s: the roofs.
set logscale xy
set xlabel 'Work per byte (FLOP/byte)' textcolor rgb INK
set ylabel 'GFLOP/s' textcolor rgb INK
set xrange [XLOW:XHIGH]
set yrange [YLOW:YHIGH]
set grid xtics ytics
roof(x) = BYTES * x < FLOPS ? BYTES * x : FLOPS
set samples 400
plot roof(x) with lines linecolor rgb INK linewidth 1.6 notitle, \
     DATA using 1:2:($3*POINTS) with points pointtype 7 pointsize variable linecolor rgb '#0072B2' notitle, \
     DATA using 1:2:(sprintf('%d', $4)) with labels left offset 0.9,0.5 textcolor rgb INK notitle
